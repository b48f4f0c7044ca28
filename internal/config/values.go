package config

import (
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// text returns a text of 1 to limit bytes without control characters. A number
// is taken as written, so that a version or an id needs no quotes.
func (v value) text(limit int) (string, bool) {
	var s string
	switch n := v.node.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode:
		s = n.GetToken().Value
	case *ast.BoolNode:
		v.want("text: put it in quotes if that is meant")
		return "", false
	default:
		v.want("text")
		return "", false
	}
	switch {
	case s == "" || strings.TrimSpace(s) != s:
		v.want("text without spaces around it")
	case len(s) > limit:
		v.problem("found %d bytes, want at most %d", len(s), limit)
	case strings.ContainsFunc(s, unicode.IsControl):
		v.want("text without control characters")
	default:
		return s, true
	}
	return "", false
}

// name returns a name: a printable text that is short enough for a label.
func (v value) name() string {
	s, ok := v.text(maxName)
	if ok && strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		v.want("printable characters")
		return ""
	}
	return s
}

// texts returns a list of different texts. Each is given to every check.
func (v value) texts(checks ...func(x value, text string)) []string {
	var texts []string
	for _, x := range v.list() {
		s, ok := x.text(maxText)
		if !ok {
			continue
		}
		if slices.Contains(texts, s) {
			x.problem("found %s twice", quote(s))
			continue
		}
		texts = append(texts, s)
		for _, check := range checks {
			check(x, s)
		}
	}
	return texts
}

// choice returns one of some words.
func (v value) choice(words ...string) string {
	n, ok := v.node.(*ast.StringNode)
	if ok && slices.Contains(words, n.Value) {
		return n.Value
	}
	hint := ""
	if ok {
		hint = didYouMean(n.Value, words)
	}
	v.want("%s%s", oneOf(words), hint)
	return ""
}

func (v value) boolean() bool {
	n, ok := v.node.(*ast.BoolNode)
	if !ok {
		v.want("true or false")
		return false
	}
	return n.Value
}

// integer returns a whole number of 1 up to the limit.
func (v value) integer(limit int64) int64 {
	if n, ok := v.node.(*ast.IntegerNode); ok {
		if i, err := strconv.ParseInt(n.GetToken().Value, 10, 64); err == nil && i >= 1 && i <= limit {
			return i
		}
	}
	v.want("a whole number from 1 to %d", limit)
	return 0
}

// number returns a finite number.
func (v value) number(want string) (float64, bool) {
	switch v.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		f, err := strconv.ParseFloat(v.node.GetToken().Value, 64)
		if err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, true
		}
	}
	v.want("%s", want)
	return 0, false
}

const durationForm = "a duration such as 90m, 12h, 14d or 1d12h"

// duration returns a duration of at least least.
func (v value) duration(least time.Duration) time.Duration {
	n, ok := v.node.(*ast.StringNode)
	if !ok {
		v.want(durationForm)
		return 0
	}
	length, ok := ParseDuration(n.Value)
	switch {
	case !ok:
		v.want(durationForm)
	case length < least && least == time.Nanosecond:
		v.want("more than no time")
	case length < least:
		v.want("at least %s", FormatDuration(least))
	}
	return length
}

var durationUnits = []struct {
	name   byte
	length time.Duration
}{{'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}

// ParseDuration reads a duration as it stands in the configuration: whole
// numbers with the units d (24 hours), h, m and s, each at most once and the
// larger before the smaller. ok is false for anything else, and above 290 years.
func ParseDuration(s string) (length time.Duration, ok bool) {
	next := 0 // the first unit that may still come
	for s != "" {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		if digits == 0 || digits == len(s) {
			return 0, false
		}
		n, err := strconv.ParseInt(s[:digits], 10, 64)
		if err != nil {
			return 0, false
		}
		for next < len(durationUnits) && durationUnits[next].name != s[digits] {
			next++
		}
		if next == len(durationUnits) || n > (math.MaxInt64-int64(length))/int64(durationUnits[next].length) {
			return 0, false
		}
		length += time.Duration(n) * durationUnits[next].length
		next++
		s, ok = s[digits+1:], true
	}
	return length, ok
}

// FormatDuration writes a duration in the form that [ParseDuration] reads,
// whole seconds only.
func FormatDuration(length time.Duration) string {
	if length < time.Second {
		return "0s"
	}
	var b strings.Builder
	for _, u := range durationUnits {
		if n := length / u.length; n > 0 {
			fmt.Fprintf(&b, "%d%c", n, u.name)
			length -= n * u.length
		}
	}
	return b.String()
}

var sizeUnits = map[string]int64{
	"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// size returns a number of bytes.
func (v value) size() int64 {
	if n, ok := v.node.(*ast.StringNode); ok {
		digits := len(n.Value) - len(strings.TrimLeft(n.Value, "0123456789"))
		unit := sizeUnits[n.Value[digits:]]
		i, err := strconv.ParseInt(n.Value[:digits], 10, 64)
		if err == nil && unit > 0 && i > 0 && i <= math.MaxInt64/unit {
			return i * unit
		}
	}
	v.want("a size such as 512MB, 10GB or 4GiB")
	return 0
}

// file returns a path, made relative to the folder of the configuration file.
func (v value) file() string {
	s, ok := v.text(maxText)
	if !ok || filepath.IsAbs(s) {
		return s
	}
	return filepath.Join(v.d.dir, s)
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// keys adds the keys NAME_env and NAME_file to those that a mapping may
// have. Neither value is quoted: somebody may have put the secret itself there.
func (s *Secret) keys(name string, known keys) {
	set := func(v value, to *string, text string) {
		if s.IsSet() {
			v.problem("found both %[1]s_env and %[1]s_file, want one of them", name)
			return
		}
		*to = text
	}
	known[name+"_env"] = func(v value) {
		n, ok := v.node.(*ast.StringNode)
		if !ok || len(n.Value) > maxName || !envName.MatchString(n.Value) {
			v.problem("want the name of an environment variable, such as JIRA_TOKEN")
			return
		}
		set(v, &s.env, n.Value)
	}
	known[name+"_file"] = func(v value) { set(v, &s.file, v.file()) }
}

// address returns a URL of one of the schemes without anything secret in it,
// so that it may be shown.
func (v value) address(s string, schemes ...string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme):
		// Not quoted: there may be a password in what cannot be parsed.
		v.problem("want a URL that begins with %s://", oneOf(schemes))
	case u.User != nil:
		v.problem("found a user or password in the URL, want it without: secrets are never in the file")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		v.problem("found a query or fragment, want a URL without")
	default:
		return strings.TrimRight(s, "/")
	}
	return ""
}
