package connector_test

import (
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

func TestCleanText(t *testing.T) {
	for text, want := range map[string]string{
		"plain":            "plain",
		" a\x00b\u200bc\n": "abc",
		"a\nb\tc":          "a b c",
		"完成了":              "完成了",
		"bad \xff byte":    "bad \ufffd byte",
		"\x1b[31mred":      "[31mred",
		"abcdefghij完成":     "abcdefghij",
	} {
		if got := connector.CleanText(text, 12); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
