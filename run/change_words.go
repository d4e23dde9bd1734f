package run

import (
	"fmt"
	"strings"
)

// splitWords splits a line at blanks, but for those in quotes or after a backslash, all of which stay. There is at least one
// word if the line is not blank.
func splitWords(line string) (words []string) {
	var quote byte
	start := -1 // of the word that is being read
	for i := 0; i < len(line); i++ {
		b := line[i]
		switch {
		case quote == 0 && (b == ' ' || b == '\t'):
			if start >= 0 {
				words = append(words, line[start:i])
			}
			start = -1
			continue
		case quote == 0 && (b == '\'' || b == '"'):
			quote = b
		case b == quote:
			quote = 0
		}
		if start < 0 {
			start = i
		}
		if b == '\\' && quote != '\'' {
			i++ // whatever follows is no blank and no quote
		}
	}
	if start >= 0 {
		words = append(words, line[start:])
	}
	return words
}

// expandWord takes quotes and backslashes away and puts in variables, as the builder of Dockerfiles does: $NAME, ${NAME},
// ${NAME:-WORD}, ${NAME:+WORD}, ${NAME:?WORD}, the last three without the colon too; nothing in single quotes.
func expandWord(word string, env []string) (string, error) {
	e := expander{rest: word, env: env}
	if err := e.run(""); err != nil {
		return "", fmt.Errorf("%q: %w", word, err)
	}
	return e.out.String(), nil
}

// expander reads a word from its beginning.
type expander struct {
	rest  string
	env   []string
	out   strings.Builder
	depth int
}

// run expands up to a byte of ends outside of quotes, which stays, or to the end.
func (e *expander) run(ends string) error {
	for e.rest != "" {
		b := e.rest[0]
		if strings.IndexByte(ends, b) >= 0 {
			return nil
		}
		e.rest = e.rest[1:]
		var err error
		switch b {
		case '\\':
			e.next()
		case '\'':
			literal, rest, ok := strings.Cut(e.rest, "'")
			if !ok {
				return fmt.Errorf("unexpected end of statement while looking for matching single-quote")
			}
			e.out.WriteString(literal)
			e.rest = rest
		case '"':
			err = e.quoted()
		case '$':
			err = e.variable()
		default:
			e.out.WriteByte(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// next takes the next byte as it is.
func (e *expander) next() {
	if e.rest != "" {
		e.out.WriteByte(e.rest[0])
		e.rest = e.rest[1:]
	}
}

// quoted reads up to a double quote. A backslash there is one, unless before what means something.
func (e *expander) quoted() error {
	for e.rest != "" {
		b := e.rest[0]
		e.rest = e.rest[1:]
		switch {
		case b == '"':
			return nil
		case b == '$':
			if err := e.variable(); err != nil {
				return err
			}
		case b == '\\' && e.rest != "" && strings.IndexByte(`"$\`, e.rest[0]) >= 0:
			e.next()
		default:
			e.out.WriteByte(b)
		}
	}
	return fmt.Errorf("unexpected end of statement while looking for matching double-quote")
}

// variable reads what follows a dollar sign. One that begins no variable is a dollar sign.
func (e *expander) variable() error {
	if !strings.HasPrefix(e.rest, "{") {
		name := e.name()
		if name == "" {
			e.out.WriteByte('$')
			return nil
		}
		value, _ := e.lookup(name)
		e.out.WriteString(value)
		return nil
	}
	e.rest = e.rest[1:]
	name := e.name()
	if name == "" {
		return fmt.Errorf("syntax error: bad substitution")
	}
	if rest, ok := strings.CutPrefix(e.rest, "}"); ok {
		e.rest = rest
		value, _ := e.lookup(name)
		e.out.WriteString(value)
		return nil
	}
	return e.modified(name)
}

// modified reads the rest of ${NAME:-WORD} and its likes.
func (e *expander) modified(name string) error {
	value, set := e.lookup(name)
	if rest, ok := strings.CutPrefix(e.rest, ":"); ok {
		e.rest, set = rest, value != ""
	}
	if e.rest == "" || strings.IndexByte("-+?", e.rest[0]) < 0 {
		return fmt.Errorf("unsupported modifier in substitution of %s: want -, + or ?", name)
	}
	how := e.rest[0]
	if e.depth++; e.depth > 100 {
		return fmt.Errorf("substitutions more than 100 deep")
	}
	inner := expander{rest: e.rest[1:], env: e.env, depth: e.depth}
	if err := inner.run("}"); err != nil {
		return err
	}
	if inner.rest == "" {
		return fmt.Errorf("syntax error: missing '}'")
	}
	e.rest = inner.rest[1:]
	switch {
	case how == '?' && !set:
		return fmt.Errorf("%s: %s", name, inner.out.String())
	case how == '+' && set, how == '-' && !set:
		e.out.WriteString(inner.out.String())
	case how != '+':
		e.out.WriteString(value)
	}
	return nil
}

// name takes the name of a variable, "" if none begins here.
func (e *expander) name() string {
	i := 0
	for i < len(e.rest) && (e.rest[i] == '_' || isAlnum(e.rest[i])) {
		if i == 0 && e.rest[0] >= '0' && e.rest[0] <= '9' {
			break
		}
		i++
	}
	name := e.rest[:i]
	e.rest = e.rest[i:]
	return name
}

func (e *expander) lookup(name string) (value string, set bool) {
	for _, kv := range e.env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value, set = v, true
		}
	}
	return value, set
}
