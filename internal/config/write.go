package config

import (
	"regexp"
	"strings"
)

var (
	plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)
	notText   = regexp.MustCompile(`^(?i)(true|false|yes|no|on|off|null|y|n)$`) // what some YAML takes for something else
)

// Text writes a text for a configuration file, in quotes where YAML needs them.
// The text has no control characters.
func Text(s string) string {
	if plainText.MatchString(s) && !notText.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// Texts writes a list of texts on one line.
func Texts(list []string) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = Text(s)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}
