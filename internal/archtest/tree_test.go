package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// A tree is the repository, or a made-up one, read once.
type tree struct {
	fs    fs.FS
	files []*file // every Go file of the module but those in testdata
}

// A file is one parsed Go file.
type file struct {
	name      string // slash-separated, from the root of the repository
	text      string
	test      bool
	generated bool
	syntax    *ast.File
	fset      *token.FileSet
}

// readTree parses every Go file of the module at the root of fsys. Directories
// that git ignores, testdata and nested modules are left out.
func readTree(fsys fs.FS) (*tree, error) {
	t := &tree{fs: fsys}
	ignored, err := t.ignored()
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			_, nested := fs.Stat(fsys, path.Join(name, "go.mod"))
			if name != "." && (ignored[name] || nested == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir
			}
			return nil
		case path.Ext(name) != ".go":
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
		t.files = append(t.files, &file{
			name: name, text: string(text), syntax: syntax, fset: fset,
			test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(syntax),
		})
		return nil
	})
	return t, err
}

// ignored returns the top-level entries that .gitignore names.
func (t *tree) ignored() (map[string]bool, error) {
	names := map[string]bool{".git": true}
	text, err := t.read(".gitignore")
	for _, line := range strings.Fields(text) {
		names[strings.Trim(line, "/")] = true
	}
	return names, err
}

// read returns the text of a file, empty where there is none.
func (t *tree) read(name string) (string, error) {
	text, err := fs.ReadFile(t.fs, name)
	if err != nil && !isMissing(err) {
		return "", err
	}
	return string(text), nil
}

func (f *file) imports() []string {
	paths := make([]string, 0, len(f.syntax.Imports))
	for _, spec := range f.syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser accepts only string literals
		}
		paths = append(paths, imported)
	}
	return paths
}

// at returns the place of a node as file:line.
func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.name, f.fset.Position(n.Pos()).Line)
}
