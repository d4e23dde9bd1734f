package lock

import (
	"path"
	"strings"
)

// Call is a command line of a script that calls hull, docker or podman.
type Call struct {
	// Line is where the command begins, from 1.
	Line int
	// Words are those behind the program's name, without quotes. Variables stand as they are written.
	Words []string
}

// ScanShell finds the calls in a shell script: at the beginning of a command, behind assignments, and behind programs that
// start another (sudo, env, timeout …); inside $(…) too. It follows quotes, comments, continued lines and here-documents, and
// knows no more of the shell than that.
func ScanShell(text string) []Call {
	s := &shell{text: text, line: 1}
	s.commands(0)
	return s.calls
}

// starters are programs and words that another command follows.
const starters = " sudo doas exec time env nice ionice nohup setsid command builtin eval if then else elif while until do ! { timeout stdbuf xargs chrt taskset flock "

type shell struct {
	text  string
	at    int
	line  int
	calls []Call

	words []string // of the command that is being read
	begin int      // its line
	ends  []string // of here-documents whose text begins on the next line
	depth int
}

// maxDepth is how deep $(…) may be nested before a script is not read on.
const maxDepth = 50

// commands reads to the end of the text, or to the character that ends what is being read, and past it.
func (s *shell) commands(end byte) {
	outer, begin := s.words, s.begin
	s.words = nil
	s.depth++
	defer func() { s.words, s.begin = outer, begin; s.depth-- }()
	for s.at < len(s.text) && s.depth < maxDepth {
		c := s.text[s.at]
		switch {
		case c == end && end != 0:
			s.at++
			s.finish()
			return
		case c == '\n':
			s.finish()
			s.newline()
		case c == ' ' || c == '\t' || c == '\r':
			s.at++
		case strings.HasPrefix(s.text[s.at:], "\\\n"):
			s.at += 2
			s.line++
		case c == '#':
			s.comment()
		case strings.IndexByte(";&|()`", c) >= 0:
			s.at++
			s.finish()
		case c == '<' || c == '>':
			s.redirection()
		default:
			line := s.line
			w := s.word()
			if s.at < len(s.text) && strings.IndexByte("<>", s.text[s.at]) >= 0 && strings.Trim(w, "0123456789") == "" {
				continue // the descriptor of a redirection
			}
			if s.words == nil {
				s.begin = line
			}
			s.words = append(s.words, w)
		}
	}
	s.finish()
}

// finish keeps the command that was read if it is a call.
func (s *shell) finish() {
	words := s.words
	s.words = nil
	started := false
	for i, w := range words {
		switch name := path.Base(w); {
		case name == "hull" || name == "docker" || name == "podman":
			s.calls = append(s.calls, Call{Line: s.begin, Words: words[i+1:]})
			return
		case strings.Contains(starters, " "+name+" "):
			started = true
		case started || isAssignment(w):
		default:
			return
		}
	}
}

func isAssignment(w string) bool {
	n := nameLength(w)
	return n > 0 && n < len(w) && (w[n] == '=' || strings.HasPrefix(w[n:], "+="))
}

func (s *shell) comment() {
	for s.at < len(s.text) && s.text[s.at] != '\n' {
		s.at++
	}
}

// newline passes the end of a line, and the here-documents that begin there.
func (s *shell) newline() {
	s.at++
	s.line++
	for ; len(s.ends) > 0; s.ends = s.ends[1:] {
		for s.at < len(s.text) {
			line, _, _ := strings.Cut(s.text[s.at:], "\n")
			s.at = min(s.at+len(line)+1, len(s.text))
			s.line++
			if strings.TrimLeft(strings.TrimRight(line, "\r"), "\t") == s.ends[0] {
				break
			}
		}
	}
}

// redirection reads <, >, >>, 2>&1, <<EOF and <(…), with the word behind them.
func (s *shell) redirection() {
	op := s.at
	for s.at < len(s.text) && strings.IndexByte("<>&|-", s.text[s.at]) >= 0 {
		s.at++
	}
	here := strings.TrimSuffix(s.text[op:s.at], "-") == "<<"
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\t') {
		s.at++
	}
	if s.at == len(s.text) || strings.IndexByte("\n;|)`", s.text[s.at]) >= 0 {
		return
	}
	if s.text[s.at] == '(' {
		s.at++
		s.commands(')')
		return
	}
	if w := s.word(); here {
		s.ends = append(s.ends, w)
	}
}

// word reads one word, without its quotes.
func (s *shell) word() string {
	var b strings.Builder
	for s.at < len(s.text) {
		c := s.text[s.at]
		switch {
		case strings.IndexByte(" \t\r\n;&|()<>`", c) >= 0:
			return b.String()
		case c == '\'':
			s.single(&b)
		case c == '"':
			s.double(&b)
		case c == '\\':
			s.escape(&b)
		case c == '$':
			s.dollar(&b)
		default:
			b.WriteByte(c)
			s.at++
		}
	}
	return b.String()
}

func (s *shell) escape(b *strings.Builder) {
	s.at++
	switch {
	case s.at == len(s.text):
	case s.text[s.at] == '\n':
		s.line++
		s.at++
	default:
		b.WriteByte(s.text[s.at])
		s.at++
	}
}

func (s *shell) single(b *strings.Builder) {
	inner, _, _ := strings.Cut(s.text[s.at+1:], "'")
	b.WriteString(inner)
	s.line += strings.Count(inner, "\n")
	s.at = min(s.at+len(inner)+2, len(s.text))
}

func (s *shell) double(b *strings.Builder) {
	for s.at++; s.at < len(s.text); {
		switch c := s.text[s.at]; c {
		case '"':
			s.at++
			return
		case '\\':
			s.escape(b)
		case '$':
			s.dollar(b)
		case '`':
			s.at++
			s.commands('`')
			b.WriteString("$(…)")
		default:
			if c == '\n' {
				s.line++
			}
			b.WriteByte(c)
			s.at++
		}
	}
}

// dollar reads a variable, which stays as it is written, or the commands of $(…).
func (s *shell) dollar(b *strings.Builder) {
	rest := s.text[s.at:]
	switch {
	case strings.HasPrefix(rest, "$(("):
		end := strings.Index(rest, "))")
		if end < 0 {
			end = len(rest) - 2
		}
		s.line += strings.Count(rest[:end+2], "\n")
		s.at += end + 2
		b.WriteString("$((…))")
	case strings.HasPrefix(rest, "$("):
		s.at += 2
		s.commands(')')
		b.WriteString("$(…)")
	case strings.HasPrefix(rest, "${"):
		end := closing(rest[1:])
		if end < 0 {
			end = 0
		}
		s.line += strings.Count(rest[:end+2], "\n")
		s.at += end + 2
		b.WriteString(rest[:end+2])
	default:
		s.at++
		b.WriteByte('$')
	}
}
