package lock

import (
	"strings"
)

// ScanCompose finds the values of the keys "image" in a compose file, or in another YAML file that has such keys. It reads
// lines, not YAML: a value stands behind its key, or the key's block is one of braces on one line. What a service with a
// "build" beside it is called is no image of anybody else's. Variables are those of env, or have their defaults; without one the
// image is not told.
func ScanCompose(text string, env map[string]string) []Use {
	lines := yamlLines(text)
	var uses []Use
	for i, l := range lines {
		for key, value := range l.pairs() {
			if key != "image" || value == "" || value[0] == '*' || l.key == "image" && built(lines, i) {
				continue
			}
			uses = append(uses, composeUse(l.line, value, env))
		}
	}
	return uses
}

func composeUse(line int, value string, env map[string]string) Use {
	image, missing := expand(value, true, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if missing != "" {
		return Use{Line: line, Why: value + ": the variable " + missing + " has no default in the file, and no value in .env"}
	}
	if image == "" {
		return Use{Line: line, Why: value + ": the name is empty"}
	}
	return Use{Line: line, Image: image}
}

// yamlLine is a line "KEY: VALUE", or one without a key.
type yamlLine struct {
	line   int
	indent int // of the key, behind dashes
	dash   bool
	key    string
	rest   string // behind the colon, or all
}

// yamlLines reads the lines of a text, without comments, empty lines and block scalars.
func yamlLines(text string) []yamlLine {
	var lines []yamlLine
	block := -1 // the indent of the key of a block scalar that is being passed over
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		trimmed := strings.TrimLeft(line, " ")
		indent := len(line) - len(trimmed)
		if trimmed == "" || block >= 0 && indent > block {
			continue
		}
		block = -1
		if trimmed[0] == '#' {
			continue
		}
		l := yamlLine{line: n}
		outer := indent
		for strings.HasPrefix(trimmed, "- ") {
			l.dash = true
			inner := strings.TrimLeft(trimmed[2:], " ")
			indent += len(trimmed) - len(inner)
			trimmed = inner
		}
		l.indent = indent
		l.key, l.rest = cutKey(trimmed)
		switch rest := uncommented(l.rest); {
		case rest == "":
		case l.key == "" && l.dash && isBlock(rest):
			block = outer
		case l.key != "" && isBlock(rest):
			block = indent
		}
		lines = append(lines, l)
	}
	return lines
}

// isBlock tells whether a value is the beginning of a block scalar: "|", ">-", "|2+".
func isBlock(value string) bool {
	return (value[0] == '|' || value[0] == '>') && strings.Trim(value[1:], "+-123456789") == ""
}

// cutKey parts KEY: VALUE; the key may be in quotes.
func cutKey(s string) (key, rest string) {
	before, rest, ok := strings.Cut(s, ":")
	if !ok || rest != "" && rest[0] != ' ' && rest[0] != '\t' || strings.ContainsAny(before, "{[") {
		return "", s
	}
	return unquoted(strings.TrimSpace(before)), strings.TrimSpace(rest)
}

// pairs are the key and value of the line, or those of a map in braces.
func (l yamlLine) pairs() func(yield func(key, value string) bool) {
	return func(yield func(key, value string) bool) {
		if l.key != "" && !yield(l.key, scalar(l.rest)) {
			return
		}
		inner := strings.TrimLeft(l.rest, " ")
		if !strings.HasPrefix(inner, "{") {
			return
		}
		parts := flowParts(uncommented(inner))
		for _, part := range parts {
			if key, _ := cutKey(part); key == "build" {
				return
			}
		}
		for _, part := range parts {
			if key, rest := cutKey(part); key == "image" && !yield(key, scalar(rest)) {
				return
			}
		}
	}
}

// flowParts splits what is in the outermost braces at commas; braces inside, as a variable's, keep theirs.
func flowParts(s string) []string {
	var parts []string
	depth, begin, quote := 0, 0, byte(0)
	for i := range len(s) {
		c := s[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '{' || c == '[':
			if depth++; depth == 1 {
				begin = i + 1
			}
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return append(parts, strings.TrimSpace(s[begin:i]))
			}
		case c == ',' && depth == 1:
			parts = append(parts, strings.TrimSpace(s[begin:i]))
			begin = i + 1
		}
	}
	return parts
}

// scalar is the text of a value on one line: plain, or in quotes; an anchor or a tag before it does not count.
func scalar(s string) string {
	for strings.HasPrefix(s, "&") || strings.HasPrefix(s, "!") {
		_, after, _ := strings.Cut(s, " ")
		s = strings.TrimSpace(after)
	}
	if s == "" {
		return ""
	}
	if s[0] == '"' || s[0] == '\'' {
		if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
			return s[1 : end+1]
		}
		return ""
	}
	if s = uncommented(s); s == "" || s[0] == '{' || s[0] == '[' || isBlock(s) {
		return ""
	}
	return s
}

// uncommented is a value without the comment behind it.
func uncommented(s string) string {
	if strings.HasPrefix(s, "#") {
		return ""
	}
	before, _, _ := strings.Cut(s, " #")
	return strings.TrimRight(before, " \t")
}

// built tells whether "build" stands beside the key of line i in the same map.
func built(lines []yamlLine, i int) bool {
	indent := lines[i].indent
	for j := i; j >= 0 && lines[j].indent >= indent; j-- {
		if lines[j].indent == indent && lines[j].key == "build" {
			return true
		}
		if lines[j].indent == indent && lines[j].dash {
			break // the first key of the map
		}
	}
	for j := i + 1; j < len(lines) && lines[j].indent >= indent; j++ {
		if lines[j].indent == indent && lines[j].dash {
			break // the next map of a list
		}
		if lines[j].indent == indent && lines[j].key == "build" {
			return true
		}
	}
	return false
}
