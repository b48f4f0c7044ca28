package eventlog

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxToken bounds a token, in bytes: the server refuses control lines over 4096
// bytes, and a line may hold two tokens twice.
const maxToken = 512

const tokenHash = "=_" // before the hash at the end of a shortened token

// Token returns a name as one token of a subject or key. Letters, digits, "-",
// "_" and "/" stand for themselves, any other byte is "=" and two hexadecimal
// digits, and the empty name is "=". Names that would give more than 512 bytes
// are cut and end in a hash; they are still distinct, but [Name] cannot tell
// them.
func Token(name string) string {
	if name == "" {
		return "="
	}
	escaped := 0
	for i := range len(name) {
		if !plain(name[i]) {
			escaped++
		}
	}
	if escaped == 0 && len(name) <= maxToken {
		return name
	}
	var b strings.Builder
	size := len(name) + 2*escaped
	limit := maxToken - len(tokenHash) - 32
	for i := range len(name) {
		if size > maxToken && b.Len() > limit-3 {
			sum := sha256.Sum256([]byte(name))
			b.WriteString(tokenHash)
			b.WriteString(hex.EncodeToString(sum[:16]))
			break
		}
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			const digits = "0123456789ABCDEF"
			b.Write([]byte{'=', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// Name returns the name that a token stands for; ok is false for a shortened
// token and for what [Token] never returns.
func Name(token string) (name string, ok bool) {
	if token == "=" {
		return "", true
	}
	var b strings.Builder
	for rest := token; rest != ""; {
		c := rest[0]
		size := 1
		if c == '=' {
			if len(rest) < 3 {
				return "", false
			}
			var raw [1]byte
			if _, err := hex.Decode(raw[:], []byte(rest[1:3])); err != nil {
				return "", false
			}
			c, size = raw[0], 3
		}
		b.WriteByte(c)
		rest = rest[size:]
	}
	name = b.String()
	return name, Token(name) == token
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '/'
}

// ChangesPrefix begins the subject of every message of the log.
const ChangesPrefix = "flow.v1.changes."

// Subject returns where the changes of a container of a source are published.
func Subject(source, container string) string {
	return ChangesPrefix + Token(source) + "." + Token(container)
}

// sourceToken returns the source's token of a subject; ok is false for a
// subject that is not as [Subject] makes them.
func sourceToken(subject string) (token string, ok bool) {
	rest, ok := strings.CutPrefix(subject, ChangesPrefix)
	if !ok {
		return "", false
	}
	source, container, ok := strings.Cut(rest, ".")
	return source, ok && container != "" && !strings.Contains(container, ".")
}
