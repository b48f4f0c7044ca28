package github

import (
	"bytes"
	"encoding/json"
)

// Most of a timeline does not matter: comments, commits, people who subscribed.
// The functions of this file tell the events apart without decoding them, which
// makes reading a timeline several times as fast. Whatever looks odd to them is
// left to the decoder.

// elements splits an array into its elements; ok is false where it is none.
func elements(text []byte) (all []json.RawMessage, ok bool) {
	text = bytes.TrimSpace(text)
	depth, start := 0, 1
	for k := 0; k < len(text); k++ {
		switch text[k] {
		case '"':
			if k = endOfText(text, k); k < 0 {
				return nil, false
			}
		case '[', '{':
			depth++
		case ',':
			if depth == 1 {
				all, start = append(all, text[start:k]), k+1
			}
		case ']', '}':
			if depth--; depth == 0 {
				if len(all) > 0 || len(bytes.TrimSpace(text[start:k])) > 0 {
					all = append(all, text[start:k])
				}
				return all, k == len(text)-1 && text[0] == '[' && text[k] == ']'
			}
		}
	}
	return nil, false
}

// member returns the text that an object has under a name; ok is false where
// there is none, or not a plain one.
func member(object []byte, name string) (text []byte, ok bool) {
	depth, key := 0, false
	for k := 0; k < len(object); k++ {
		switch object[k] {
		case '"':
			end := endOfText(object, k)
			if end < 0 {
				return nil, false
			}
			if key && string(object[k+1:end]) == name {
				return textAfter(object[end+1:])
			}
			k, key = end, false
		case '{', '[':
			depth++
			key = depth == 1
		case '}', ']':
			depth--
		case ',':
			key = depth == 1
		}
	}
	return nil, false
}

// textAfter returns the text that follows a name and a colon.
func textAfter(rest []byte) (text []byte, ok bool) {
	rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(":"))
	rest = bytes.TrimLeft(rest, " \t\r\n")
	if !ok || len(rest) == 0 || rest[0] != '"' {
		return nil, false
	}
	end := endOfText(rest, 0)
	if end < 0 || bytes.IndexByte(rest[:end], '\\') >= 0 {
		return nil, false
	}
	return rest[1:end], true
}

// endOfText returns the index of the quote that ends the text which begins at
// start, or -1.
func endOfText(text []byte, start int) int {
	for k := start + 1; ; k++ {
		n := bytes.IndexByte(text[k:], '"')
		if n < 0 {
			return -1
		}
		k += n
		escapes := 0
		for text[k-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return k
		}
	}
}
