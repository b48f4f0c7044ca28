package eventlog

import (
	"strings"
	"testing"
)

func TestToken(t *testing.T) {
	long := strings.Repeat("é", 400)
	for _, tt := range []struct{ name, token string }{
		{"jira-main", "jira-main"},
		{"acme/api", "acme/api"},
		{"", "="},
		{"my.repo", "my=2Erepo"},
		{"*", "=2A"},
		{">", "=3E"},
		{"a b\t\x00", "a=20b=09=00"},
		{"=", "=3D"},
		{"Équipe", "=C3=89quipe"},
		{strings.Repeat("a", 512), strings.Repeat("a", 512)},
	} {
		if got := Token(tt.name); got != tt.token {
			t.Errorf("Token(%q) = %q, want %q", tt.name, got, tt.token)
		}
		if got, ok := Name(tt.token); !ok || got != tt.name {
			t.Errorf("Name(%q) = %q, %v, want %q", tt.token, got, ok, tt.name)
		}
	}
	if token := Token(long); len(token) > maxToken || token == Token(long+"x") {
		t.Errorf("long names: %d bytes, or not distinct", len(token))
	} else if _, ok := Name(token); ok {
		t.Error("Name claims to know a shortened token's name")
	}
	for _, token := range []string{"=2e", "=2", "=G0", "a.b", "=61", " "} {
		if name, ok := Name(token); ok {
			t.Errorf("Name(%q) = %q, though Token never returns it", token, name)
		}
	}
}

func TestSubject(t *testing.T) {
	if got, want := Subject("jira.main", "acme/api"), "flow.v1.changes.jira=2Emain.acme/api"; got != want {
		t.Errorf("Subject = %q, want %q", got, want)
	}
	for subject, want := range map[string]string{
		"flow.v1.changes.a.b":   "a",
		"flow.v1.changes.a":     "",
		"flow.v1.changes.a.b.c": "",
		"flow.v1.other.a.b":     "",
	} {
		if got, ok := sourceToken(subject); ok != (want != "") || ok && got != want {
			t.Errorf("sourceToken(%q) = %q, %v, want %q", subject, got, ok, want)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add("jira.main", "=2E")
	f.Add("", "=_0123")
	f.Add(strings.Repeat("é", 300), "acme/api")
	f.Fuzz(func(t *testing.T, name, other string) {
		token := Token(name)
		if token == "" || len(token) > maxToken {
			t.Fatalf("Token(%q) has %d bytes", name, len(token))
		}
		for i := range len(token) {
			if c := token[i]; !plain(c) && c != '=' {
				t.Fatalf("Token(%q) = %q has byte %q", name, token, c)
			}
		}
		if back, ok := Name(token); ok && back != name || !ok && len(name) <= maxToken/3 {
			t.Fatalf("Name(Token(%q)) = %q, %v", name, back, ok)
		}
		if name != other && token == Token(other) {
			t.Fatalf("%q and %q have the same token", name, other)
		}
		if back, ok := Name(other); ok && Token(back) != other {
			t.Fatalf("Name(%q) = %q, whose token is %q", other, back, Token(back))
		}
		if got, ok := sourceToken(Subject(name, other)); !ok || got != token {
			t.Fatalf("sourceToken of %q and %q = %q, %v", name, other, got, ok)
		}
	})
}
