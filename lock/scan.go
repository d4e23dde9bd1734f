package lock

import (
	"path/filepath"
	"strings"
)

// Use is one place in a file where an image is named.
type Use struct {
	// Line counts from 1.
	Line int
	// Image is the name as it is to be fetched, with defaults of variables put in; "" where it cannot be told.
	Image string
	// Why says what is in the way where Image is "".
	Why string
}

// Kind is how a file is to be read.
type Kind int

// The kinds of files.
const (
	Shell Kind = iota
	Dockerfile
	Compose
)

// KindOf tells a file's kind by its name, and by what is in it where the name says nothing.
func KindOf(path, text string) Kind {
	name := strings.ToLower(filepath.Base(path))
	stem, ext := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
	switch {
	case ext == ".yaml" || ext == ".yml":
		return Compose
	case ext == ".sh" || strings.HasPrefix(text, "#!"):
		return Shell
	case stem == "dockerfile" || stem == "containerfile" || ext == ".dockerfile" || ext == ".containerfile":
		return Dockerfile
	}
	for line := range strings.Lines(text) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "" || word[0] == '#':
		case strings.EqualFold(word, "FROM") || strings.EqualFold(word, "ARG"):
			return Dockerfile
		default:
			return Shell
		}
	}
	return Shell
}

// maxExpanded is how many bytes a word with variables may become. A few lines that name one another can become any number.
const maxExpanded = 64 << 10

// expand puts variables into a word: $NAME, ${NAME}, ${NAME:-word}, ${NAME-word}, ${NAME:+word} and ${NAME+word}, as far as
// value knows them; missing is the first that has no value and no default. A "$$" is a dollar where double says so.
func expand(s string, double bool, value func(name string) (string, bool)) (out, missing string) {
	var b strings.Builder
	for s != "" {
		before, rest, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			break
		}
		if double && strings.HasPrefix(rest, "$") {
			b.WriteByte('$')
			s = rest[1:]
			continue
		}
		name, op, word := "", "", ""
		if strings.HasPrefix(rest, "{") {
			end := closing(rest)
			if end < 0 {
				return "", "${"
			}
			inner := rest[1:end]
			s = rest[end+1:]
			n := nameLength(inner)
			name, op = inner[:n], inner[n:]
			for _, o := range []string{":-", ":+", "-", "+", ":?", "?"} {
				if w, ok := strings.CutPrefix(op, o); ok {
					op, word = o, w
					break
				}
			}
		} else {
			n := nameLength(rest)
			name, s = rest[:n], rest[n:]
		}
		if name == "" {
			return "", "$" + rest
		}
		text, lacks := substitute(name, op, word, double, value)
		if lacks != "" {
			return "", lacks
		}
		if b.WriteString(text); b.Len() > maxExpanded {
			return "", name
		}
	}
	return b.String(), ""
}

// substitute is what one variable becomes.
func substitute(name, op, word string, double bool, value func(string) (string, bool)) (text, missing string) {
	v, set := value(name)
	full := set && (v != "" || !strings.HasPrefix(op, ":"))
	switch strings.TrimPrefix(op, ":") {
	case "":
		if !set {
			return "", name
		}
		return v, ""
	case "?":
		if !full {
			return "", name
		}
		return v, ""
	case "-":
		if full {
			return v, ""
		}
		return expand(word, double, value)
	case "+":
		if full {
			return expand(word, double, value)
		}
		return "", ""
	}
	return "", name // an operator that is not known here
}

// closing is the index of the brace that ends what s begins with.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}
