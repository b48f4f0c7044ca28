package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxDepth = 16  // of nested brackets, or of list entries in one line
	maxName  = 100 // bytes of a name or any other label
	maxText  = 4096
)

// A decoder turns the nodes of one file into values and collects problems.
type decoder struct {
	file, dir string
	problems  []Problem
}

func (d *decoder) problem(line, column int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, line, column, path, fmt.Sprintf(format, args...)})
}

// parse returns the root of the one document; ok is false after a problem that
// leaves nothing to look at.
func (d *decoder) parse(data []byte) (root value, ok bool) {
	if len(data) > MaxSize {
		d.problem(1, 1, "", "found more than %d bytes, the limit of a configuration file", MaxSize)
		return value{}, false
	}
	if !utf8.Valid(data) {
		d.problem(1, 1, "", "found bytes that are not UTF-8")
		return value{}, false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors begin a file with it
	tokens := lexer.Tokenize(string(data))
	if !d.plain(tokens) {
		return value{}, false
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		line, column, message := 1, 1, err.Error()
		if errors.As(err, &syntax) {
			message = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				line, column = t.Position.Line, t.Position.Column
			}
		}
		d.problem(line, column, "", "not valid YAML: %s", message)
		return value{}, false
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) == 0 {
		d.problem(1, 1, "", "found an empty file, want a configuration")
		return value{}, false
	}
	if len(bodies) > 1 {
		line, column := position(bodies[1])
		d.problem(line, column, "", "found a second document, want one")
		return value{}, false
	}
	return value{d: d, node: bodies[0], line: 1, column: 1}, true
}

// plain reports whether the tokens are of plain data within bounds: what could
// grow without measure, or take a parser deep down, is refused beforehand.
func (d *decoder) plain(tokens token.Tokens) bool {
	before, depth, line, entries := len(d.problems), 0, 0, 0
	for _, t := range tokens {
		at := t.Position
		if at.Line != line {
			line, entries = at.Line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			d.problem(at.Line, at.Column, "", "found an anchor, alias or merge key, want plain YAML: repeat the value")
		case token.TagType, token.DirectiveType:
			d.problem(at.Line, at.Column, "", "found a tag or directive, want plain YAML")
		case token.MappingKeyType:
			d.problem(at.Line, at.Column, "", `found a "?", want plain keys`)
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			entries++
		}
		if depth > maxDepth || entries > maxDepth {
			d.problem(at.Line, at.Column, "", "found more than %d levels of nesting", maxDepth)
			return false
		}
	}
	return len(d.problems) == before
}

// A value is a node and where it stands. Its methods note a problem where the
// node is not what they are asked for, and then return a zero value.
type value struct {
	d            *decoder
	node         ast.Node
	path         string
	line, column int
}

func (v value) problem(format string, args ...any) {
	v.d.problem(v.line, v.column, v.path, format, args...)
}

// want notes that the value is of the wrong kind.
func (v value) want(format string, args ...any) {
	v.problem("found %s, want %s", v.found(), fmt.Sprintf(format, args...))
}

// found describes the node for a message.
func (v value) found() string {
	switch n := v.node.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case ast.MapNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return quote(n.Value)
	case *ast.LiteralNode:
		return quote(n.Value.Value)
	default:
		return cut(v.node.GetToken().Value)
	}
}

func quote(s string) string { return strconv.Quote(cut(s)) }

// cut shortens what a message quotes.
func cut(s string) string {
	if len(s) <= 60 {
		return s
	}
	return strings.ToValidUTF8(s[:60], "") + "..."
}

// keys says what to do with the value of each key that a mapping may have.
type keys map[string]func(value)

// seen are the keys that a mapping has.
type seen map[string]value

func (s seen) has(key string) bool { _, ok := s[key]; return ok }

// mapping calls the function of each key. Unknown keys and keys given twice
// are problems.
func (v value) mapping(known keys) seen {
	have := seen{}
	v.pairs(func(key string, at, x value) {
		handle, ok := known[key]
		if !ok {
			names := slices.Sorted(maps.Keys(known))
			if known[key+"_env"] != nil {
				at.problem("secrets are never in the file: use %[1]s_env with the name of an environment variable, or %[1]s_file with a path", key)
			} else {
				at.problem("unknown key, want %s%s", oneOf(names), didYouMean(key, names))
			}
			return
		}
		have[key] = x
		handle(x)
	})
	return have
}

// pairs calls f for each key and value of a mapping, each key once. at stands
// where the key does.
func (v value) pairs(f func(key string, at, x value)) {
	m, ok := v.node.(ast.MapNode)
	if !ok {
		v.want("a mapping")
		return
	}
	first := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		key := it.Key().GetToken()
		name := key.Value
		x := value{d: v.d, node: it.Value(), path: name, line: key.Position.Line, column: key.Position.Column}
		if strings.ContainsFunc(name, func(r rune) bool { return !(r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)) }) {
			x.path = quote(name)
		}
		if v.path != "" {
			x.path = v.path + "." + x.path
		}
		if line, twice := first[name]; twice {
			x.problem("key given twice, first in line %d", line)
			continue
		}
		first[name] = key.Position.Line
		at := x
		if !x.isMap() && !x.isList() {
			x.line, x.column = position(x.node)
		}
		f(name, at, x)
	}
}

// list returns the entries of a list.
func (v value) list() []value {
	n, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.want("a list")
		return nil
	}
	entries := make([]value, len(n.Values))
	for i, node := range n.Values {
		line, column := position(node)
		entries[i] = value{v.d, node, fmt.Sprintf("%s[%d]", v.path, i), line, column}
	}
	return entries
}

// position returns where a node begins: for a mapping, its first key.
func position(n ast.Node) (line, column int) {
	if m, ok := n.(ast.MapNode); ok {
		if it := m.MapRange(); it.Next() {
			n = it.Key()
		}
	}
	if n == nil || n.GetToken() == nil {
		return 1, 1
	}
	p := n.GetToken().Position
	return p.Line, p.Column
}

// isMap and isList report the kind of a node, where a problem would only repeat
// that it is of the wrong one.
func (v value) isMap() bool  { _, ok := v.node.(ast.MapNode); return ok }
func (v value) isList() bool { _, ok := v.node.(*ast.SequenceNode); return ok }

// missing notes that a mapping lacks a key.
func (v value) missing(key, format string, args ...any) {
	if !v.isMap() {
		return
	}
	v.d.problem(v.line, v.column, strings.TrimPrefix(v.path+"."+key, "."), "missing, want %s", fmt.Sprintf(format, args...))
}
