package archtest

import (
	"go/ast"
	"path"
	"slices"
	"sort"
	"strings"
)

// packageComments finds packages that do not say what they are for.
func packageComments(t *tree) (problems []string) {
	documented := map[string]bool{}
	for _, f := range t.files {
		dir := path.Dir(f.name)
		if f.test {
			continue
		}
		want := "Package " + f.syntax.Name.Name + " "
		if f.syntax.Name.Name == "main" {
			want = "Command " + path.Base(dir) + " "
		}
		documented[dir] = documented[dir] || f.syntax.Doc != nil && strings.HasPrefix(f.syntax.Doc.Text(), want)
	}
	for dir, ok := range documented {
		if !ok {
			problems = append(problems, dir+": no package comment that begins with its name")
		}
	}
	sort.Strings(problems)
	return problems
}

// selfExplaining are methods of well-known interfaces whose comment would only
// repeat them.
var selfExplaining = []string{"Error", "Unwrap", "Len", "Less", "Swap"}

// exportedComments finds exported identifiers without a comment. One comment may
// speak for a group of constants or variables.
func exportedComments(t *tree) (problems []string) {
	for _, f := range t.files {
		if f.test || f.generated {
			continue
		}
		missing := func(n ast.Node, name string) {
			problems = append(problems, f.at(n)+": "+name+" is exported and has no comment")
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && receiverExported(d) && d.Doc == nil && !(d.Recv != nil && slices.Contains(selfExplaining, d.Name.Name)) {
					missing(d, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if name := undocumented(d, s); name != "" {
						missing(s, name)
					}
				}
			}
		}
	}
	return problems
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return true
		}
	}
}

// undocumented returns the first exported name of a declaration that no comment
// speaks for.
func undocumented(d *ast.GenDecl, s ast.Spec) string {
	switch s := s.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
			return s.Name.Name
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
				return name.Name
			}
		}
	}
	return ""
}

// noInit finds functions that run by themselves at start.
func noInit(t *tree) (problems []string) {
	for _, f := range t.files {
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !f.generated {
				problems = append(problems, f.at(fn)+": init runs behind the reader's back")
			}
		}
	}
	return problems
}
