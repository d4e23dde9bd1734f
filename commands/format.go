package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/docker/go-units"
)

// listUsage is the help of --format for verbs that list things.
const listUsage = "'table', 'table TEMPLATE', 'json', or a Go template for each line"

// column is one field of a list: its name in templates and JSON, its heading in tables, and its value.
type column[T any] struct {
	name, head string
	value      func(T) string
}

// listing says how a verb lists things: every field there is, and what is shown when nothing is asked for.
type listing[T any] struct {
	columns []column[T]
	// shown names the columns of the default table, separated by blanks; quiet is the one that -q prints.
	shown, quiet string
	// labels makes {{.Label "key"}} work; nil where things have no labels.
	labels func(T) map[string]string
}

// listFlags are the flags that every list has.
type listFlags struct {
	format string
	quiet  bool
	all    []string // --filter
}

// options are --format, -q and --filter.
func (f *listFlags) options() []*option {
	return []*option{
		text(&f.format, "format", "FORMAT", listUsage),
		toggle(&f.quiet, "quiet,q", "print nothing but the ID, one a line"),
		list(&f.all, "filter,f", "KEY=VALUE", "leave out what does not match; the same key twice is an or"),
	}
}

// print writes rows as format asks: "" or "table", "table TEMPLATE", "json" or a template for each row. quiet prints one
// column alone and beats every table, as in Docker.
func (l *listing[T]) print(w io.Writer, format string, quiet bool, rows []T) error {
	var b bytes.Buffer
	b.Grow(100 * len(rows)) // rather than in steps, which would be twice that
	custom, isTable := strings.CutPrefix(format, "table")
	isTable = isTable && (custom == "" || custom[0] == ' ')
	custom = strings.TrimSpace(custom)
	var err error
	switch {
	case quiet && (format == "" || isTable):
		column := l.column(l.quiet)
		for _, row := range rows {
			b.WriteString(column.value(row) + "\n")
		}
	case format == "" || isTable && custom == "":
		l.table(&b, rows)
	case isTable:
		err = l.customTable(&b, custom, rows)
	default:
		err = l.template(&b, format, rows)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

func (l *listing[T]) column(name string) *column[T] {
	for i := range l.columns {
		if l.columns[i].name == name {
			return &l.columns[i]
		}
	}
	panic("listing without column " + name)
}

// newTable pads cells as Docker does: three blanks between columns, no column narrower than ten with them.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) }

// table is the default one, without the cost of a template.
func (l *listing[T]) table(w io.Writer, rows []T) {
	t := newTable(w)
	names := strings.Fields(l.shown)
	cells := make([]string, len(names))
	for i, name := range names {
		cells[i] = l.column(name).head
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
	for _, row := range rows {
		for i, name := range names {
			cells[i] = oneCell(l.column(name).value(row))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	t.Flush()
}

// oneCell keeps a value from breaking the table or speaking to the terminal.
func oneCell(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s)
}

// prose keeps what is said to people, and may name a container's files, from speaking to their terminal.
func prose(s string) string {
	return strings.Map(func(r rune) rune {
		if isControl(r) && r != '\n' && r != '\t' {
			return ' '
		}
		return r
	}, s)
}

// isControl tells what a terminal obeys, the marks that turn the direction of writing included: with those a line can be
// made to read as another one.
func isControl(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// fields is a row as a template sees it: a string for every column's name, and for labels under a key no template can name.
type fields map[string]string

const labelKey = "label "

// Label is {{.Label "key"}}: the value of one label, "" where there is none.
func (f fields) Label(key string) string { return f[labelKey+key] }

// MarshalJSON leaves out the labels' own entries.
func (f fields) MarshalJSON() ([]byte, error) {
	plain := make(map[string]string, len(f))
	for k, v := range f {
		if !strings.HasPrefix(k, labelKey) {
			plain[k] = v
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(plain)
	return b.Bytes(), err
}

func (l *listing[T]) fields(row T) fields {
	f := make(fields, len(l.columns))
	for _, c := range l.columns {
		f[c.name] = c.value(row)
	}
	if l.labels != nil {
		for k, v := range l.labels(row) {
			f[labelKey+k] = v
		}
	}
	return f
}

func (l *listing[T]) template(b *bytes.Buffer, format string, rows []T) error {
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return l.checkNames(t, format)
	}
	for _, row := range rows {
		if err := l.execute(b, t, format, l.fields(row)); err != nil {
			return err
		}
	}
	return nil
}

// checkNames finds a field that does not exist where there is no row that would show it. Any other complaint is about the
// values, which stand in for others here.
func (l *listing[T]) checkNames(t *template.Template, format string) error {
	if err := l.execute(new(bytes.Buffer), t, format, l.heads()); err != nil && strings.Contains(err.Error(), noField) {
		return err
	}
	return nil
}

func (l *listing[T]) heads() fields {
	heads := make(fields, len(l.columns))
	for _, c := range l.columns {
		heads[c.name] = c.head
	}
	return heads
}

// customTable runs the same template over headings and rows.
func (l *listing[T]) customTable(b *bytes.Buffer, format string, rows []T) error {
	headings, err := parseTemplateWith(format, headerFunctions())
	if err != nil {
		return err
	}
	var cells bytes.Buffer
	if err := l.execute(&cells, headings, format, l.heads()); err != nil {
		return err
	}
	if err := l.template(&cells, format, rows); err != nil {
		return err
	}
	t := newTable(b)
	t.Write(cells.Bytes())
	return t.Flush()
}

// noField is in package template's error for a key that a map lacks.
const noField = "map has no entry for key"

// execute runs a template on one row and ends the line. A field that does not exist is an error that names those that do.
func (l *listing[T]) execute(b *bytes.Buffer, t *template.Template, format string, f fields) error {
	if err := t.Option("missingkey=error").Execute(b, f); err != nil {
		if strings.Contains(err.Error(), noField) {
			return fmt.Errorf("format %q: %s: want one of %s", format, templateCause(err), l.names())
		}
		return fmt.Errorf("format %q: %s", format, templateCause(err))
	}
	b.WriteByte('\n')
	return nil
}

func (l *listing[T]) names() string {
	names := make([]string, len(l.columns))
	for i, c := range l.columns {
		names[i] = c.name
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// joinLabels shows labels in one cell.
func joinLabels(labels map[string]string) string {
	list := make([]string, 0, len(labels))
	for k, v := range labels {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// ago is how long t lies back, in Docker's words: "About a minute ago". The zero time is "N/A".
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(max(now.Sub(t), 0)) + " ago"
}

// timestamp is a time as templates show it.
func timestamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -0700 MST") }

// diskSize is a size on disk: base 1000, three digits (7.8MB).
func diskSize(bytes int64) string { return units.HumanSizeWithPrecision(float64(bytes), 3) }

// ellipsis cuts s to n characters, the last of which then is an ellipsis.
func ellipsis(s string, n int) string {
	if r := []rune(s); len(r) > n && n > 0 {
		return string(r[:n-1]) + "…"
	}
	return s
}
