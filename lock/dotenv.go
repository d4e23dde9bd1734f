package lock

import (
	"fmt"
	"strings"
)

// ParseDotenv reads a compose project's .env file, by the grammar of compose (https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax):
// NAME=VALUE or NAME: VALUE, "export" before it or not, comments behind a blank; in single quotes all is literal, in double
// quotes \n, \r, \t, \", \\ and \$ are known; both may go over several lines. Variables in a value are those above it. What
// cannot be told from the file alone, a NAME without a value for instance, which is the caller's, is left out.
func ParseDotenv(text string) (map[string]string, error) {
	d := dotenv{rest: strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n"), line: 1, values: map[string]string{}}
	for d.rest != "" {
		line := d.line
		if err := d.entry(); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	return d.values, nil
}

// dotenv is a file that is being read.
type dotenv struct {
	rest   string
	line   int // of rest, from 1
	values map[string]string
}

// take takes the next n bytes.
func (d *dotenv) take(n int) string {
	s := d.rest[:n]
	d.rest = d.rest[n:]
	d.line += strings.Count(s, "\n")
	return s
}

// takeLine takes what is left of the line, and its end.
func (d *dotenv) takeLine() string {
	line, _, _ := strings.Cut(d.rest, "\n")
	d.take(min(len(line)+1, len(d.rest)))
	return line
}

// entry reads an empty line, a comment or a variable.
func (d *dotenv) entry() error {
	d.take(len(d.rest) - len(strings.TrimLeft(d.rest, " \t")))
	line, _, _ := strings.Cut(d.rest, "\n")
	if line == "" || line[0] == '#' {
		d.takeLine()
		return nil
	}
	end := strings.IndexAny(line, "=:")
	name := line
	if end >= 0 {
		name = line[:end]
	}
	name = strings.TrimSpace(name)
	if word, rest, ok := strings.Cut(name, " "); ok && word == "export" {
		name = strings.TrimSpace(rest)
	}
	if name == "" || strings.ContainsFunc(name, func(c rune) bool { return !isEnvName(c) }) {
		return fmt.Errorf("%q: want NAME=VALUE", short(line))
	}
	if end < 0 {
		d.takeLine()
		return nil
	}
	d.take(end + 1)
	d.take(len(d.rest) - len(strings.TrimLeft(d.rest, " \t")))
	value, literal, err := d.value()
	if err != nil {
		return err
	}
	if !literal {
		var missing string
		value, missing = expand(value, true, func(name string) (string, bool) { v, ok := d.values[name]; return v, ok })
		if missing != "" {
			delete(d.values, name)
			return nil
		}
	}
	d.values[name] = value
	return nil
}

func isEnvName(c rune) bool {
	return c == '_' || c == '.' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// value reads what stands behind the name, to the end of the line. A literal one has no variables.
func (d *dotenv) value() (value string, literal bool, err error) {
	if d.rest == "" || d.rest[0] != '"' && d.rest[0] != '\'' {
		value, _, _ = strings.Cut(d.takeLine(), " #")
		if strings.HasPrefix(value, "#") {
			value = ""
		}
		return strings.TrimRight(value, " \t"), false, nil
	}
	quote := d.take(1)[0]
	end := 0
	for ; end < len(d.rest) && d.rest[end] != quote; end++ {
		if quote == '"' && d.rest[end] == '\\' {
			end++
		}
	}
	if end >= len(d.rest) {
		return "", false, fmt.Errorf("a %c is not closed", quote)
	}
	value = d.take(end)
	d.take(1)
	if behind := strings.TrimSpace(d.takeLine()); behind != "" && behind[0] != '#' {
		return "", false, fmt.Errorf("%q behind the closing %c", short(behind), quote)
	}
	if quote == '\'' {
		return value, true, nil
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n", `\r`, "\r", `\t`, "\t", `\$`, "$$").Replace(value), false, nil
}
