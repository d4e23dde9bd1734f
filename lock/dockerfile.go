package lock

import (
	"strconv"
	"strings"
)

// ScanDockerfile finds the images that a Dockerfile is built from: those of FROM that are no stage of the same file,
// and of COPY --from and RUN --mount=from. Variables have the defaults of the ARG instructions before the first FROM.
func ScanDockerfile(text string) []Use {
	d := dockerfile{args: map[string]string{}, stages: map[string]bool{"scratch": true}}
	for _, in := range instructions(text) {
		words := strings.Fields(in.text)
		if len(words) > 1 && strings.EqualFold(words[0], "ONBUILD") {
			words = words[1:]
		}
		if len(words) > 1 {
			d.instruction(in.line, strings.ToUpper(words[0]), words[1:])
		}
	}
	return d.uses
}

type dockerfile struct {
	args   map[string]string
	stages map[string]bool // names, lower case
	count  int             // of stages so far
	uses   []Use
}

func (d *dockerfile) instruction(line int, name string, words []string) {
	switch name {
	case "ARG":
		if d.count > 0 {
			return // of a stage, where FROM does not see it
		}
		for _, w := range words {
			if key, value, ok := strings.Cut(w, "="); ok {
				if value, missing := expand(unquoted(value), false, d.value); missing == "" {
					d.args[key] = value
				}
			}
		}
	case "FROM":
		d.from(line, words)
	case "COPY":
		for _, w := range words {
			if image, ok := strings.CutPrefix(w, "--from="); ok {
				d.use(line, image)
			}
		}
	case "RUN":
		for _, w := range words {
			mount, ok := strings.CutPrefix(w, "--mount=")
			if !ok {
				return // the command begins
			}
			for option := range strings.SplitSeq(mount, ",") {
				if image, ok := strings.CutPrefix(option, "from="); ok {
					d.use(line, image)
				}
			}
		}
	}
}

func (d *dockerfile) from(line int, words []string) {
	for len(words) > 0 && strings.HasPrefix(words[0], "--") {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	d.use(line, words[0])
	if len(words) >= 3 && strings.EqualFold(words[1], "AS") {
		d.stages[strings.ToLower(words[2])] = true
	}
	d.count++
}

func (d *dockerfile) use(line int, word string) {
	name, missing := expand(unquoted(word), false, d.value)
	if missing != "" {
		d.uses = append(d.uses, Use{Line: line, Why: word + ": the variable " + missing + " has no default in the file"})
		return
	}
	if n, err := strconv.Atoi(name); name == "" || err == nil && n < d.count || d.stages[strings.ToLower(name)] {
		return
	}
	d.uses = append(d.uses, Use{Line: line, Image: name})
}

func (d *dockerfile) value(name string) (string, bool) {
	v, ok := d.args[name]
	return v, ok
}

// unquoted takes away the quotes around a word.
func unquoted(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

type instruction struct {
	line int
	text string
}

// instructions joins the lines that belong together, without comments and here-documents.
func instructions(text string) []instruction {
	var all []instruction
	var now instruction
	escape, begun := "\\", false
	var ends []string // of here-documents that are being passed over
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		trimmed := strings.TrimLeft(line, " \t")
		if len(ends) > 0 {
			if trimmed == ends[0] {
				ends = ends[1:]
			}
			continue
		}
		if strings.HasPrefix(trimmed, "#") {
			if key, value, ok := strings.Cut(trimmed[1:], "="); ok && !begun && strings.EqualFold(strings.TrimSpace(key), "escape") {
				if strings.TrimSpace(value) == "`" {
					escape = "`"
				}
			}
			continue
		}
		if trimmed == "" {
			continue
		}
		begun = true
		if now.text == "" {
			now.line = n
		}
		more, goesOn := strings.CutSuffix(trimmed, escape)
		now.text += more + " "
		if goesOn {
			continue
		}
		ends = hereDocuments(now.text)
		all, now = append(all, now), instruction{}
	}
	if now.text != "" {
		all = append(all, now)
	}
	return all
}

// hereDocuments are the words that end the here-documents of an instruction: <<EOF, <<-EOF, <<"EOF".
func hereDocuments(text string) []string {
	word, _, _ := strings.Cut(text, " ")
	if word = strings.ToUpper(word); word != "RUN" && word != "COPY" && word != "ADD" {
		return nil
	}
	var ends []string
	for w := range strings.FieldsSeq(text) {
		_, end, ok := strings.Cut(w, "<<")
		end = unquoted(strings.TrimPrefix(end, "-"))
		if ok && end != "" && nameLength(end) == len(end) {
			ends = append(ends, end)
		}
	}
	return ends
}
