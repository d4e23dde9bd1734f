package commands

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// help prints the list of commands, of one group of them, or a command's own help. It is asked for, so it is an answer
// on standard output with status 0.
func (s *session) help(words []string) error {
	verbs := table()
	if len(words) == 0 {
		return s.print(func(w io.Writer) { appHelp(w, verbs, s.globals()) })
	}
	if len(words) == 1 && isGroup(verbs, words[0]) {
		return s.print(func(w io.Writer) { groupHelp(w, verbs, words[0]) })
	}
	v, _, err := findVerb(words)
	if v == nil {
		return err
	}
	known, _ := v.setup(s)
	return s.verbHelp(v, known)
}

func (s *session) verbHelp(v *verb, known []*option) error {
	return s.print(func(w io.Writer) { verbHelp(w, v, known) })
}

// print writes an answer in one piece.
func (s *session) print(write func(io.Writer)) error {
	var text strings.Builder
	write(&text)
	_, err := io.WriteString(s.out, text.String())
	return err
}

func appHelp(w io.Writer, verbs []verb, globals []*option) {
	fmt.Fprint(w, "Usage:  hull [OPTIONS] COMMAND\n\nRun containers from one program, with nothing else installed\n")
	var groups []string
	for i := range verbs {
		if !slices.Contains(groups, verbs[i].group) {
			groups = append(groups, verbs[i].group)
		}
	}
	for _, g := range groups {
		fmt.Fprintf(w, "\n%s:\n", g)
		columns(w, func(row func(a, b string)) {
			for i := range verbs {
				if verbs[i].group == g {
					row(verbs[i].name(), verbs[i].usage)
				}
			}
		})
	}
	optionsHelp(w, "Global options", globals)
	fmt.Fprint(w, "\nRun 'hull COMMAND --help' for more information on a command\n")
}

func groupHelp(w io.Writer, verbs []verb, group string) {
	fmt.Fprintf(w, "Usage:  hull %s COMMAND\n\nCommands:\n", group)
	columns(w, func(row func(a, b string)) {
		for i := range verbs {
			for n := range strings.SplitSeq(verbs[i].names, "|") {
				if first, second, two := strings.Cut(n, " "); two && first == group {
					row(second, verbs[i].usage)
					break
				}
			}
		}
	})
	fmt.Fprintf(w, "\nRun 'hull %s COMMAND --help' for more information on a command\n", group)
}

func verbHelp(w io.Writer, v *verb, known []*option) {
	options := ""
	if len(known) > 0 {
		options = " [OPTIONS]"
	}
	fmt.Fprintf(w, "Usage:  %s\n\n%s\n", strings.TrimSpace("hull "+v.name()+options+" "+v.args), v.usage)
	if first, others, more := strings.Cut(v.names, "|"); more && first != "" {
		fmt.Fprintf(w, "\nAlso:  hull %s\n", strings.ReplaceAll(others, "|", ", hull "))
	}
	var groups []string
	for _, o := range known {
		if !o.hidden && !slices.Contains(groups, o.group) {
			groups = append(groups, o.group)
		}
	}
	for _, g := range groups {
		heading := g
		if g == "" {
			heading = "Options"
		}
		optionsHelp(w, heading, slices.DeleteFunc(slices.Clone(known), func(o *option) bool { return o.group != g }))
	}
}

// optionsHelp prints flags in the order of their long names.
func optionsHelp(w io.Writer, heading string, flags []*option) {
	flags = slices.DeleteFunc(slices.Clone(flags), func(o *option) bool { return o.hidden })
	slices.SortFunc(flags, func(a, b *option) int { return strings.Compare(a.name, b.name) })
	fmt.Fprintf(w, "\n%s:\n", heading)
	columns(w, func(row func(a, b string)) {
		for _, o := range flags {
			usage := o.usage
			if o.shown != "" {
				usage += " (default " + o.shown + ")"
			}
			row(o.head(), usage)
		}
	})
}

// columns prints rows of two columns, the second aligned.
func columns(w io.Writer, rows func(row func(a, b string))) {
	t := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	rows(func(a, b string) { fmt.Fprintf(t, "  %s\t%s\n", a, b) })
	t.Flush()
}
