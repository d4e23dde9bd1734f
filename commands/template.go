package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"
	"unicode"
)

// formatUsage is the help of --format, which is the same for every verb that shows one thing.
const formatUsage = "print by a Go template, or 'json'"

// parseTemplate reads a template of --format with Docker's functions; \t and \n in it stand for a tab and a new line.
func parseTemplate(format string) (*template.Template, error) {
	return parseTemplateWith(format, templateFunctions())
}

func parseTemplateWith(format string, functions template.FuncMap) (*template.Template, error) {
	text := strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	t, err := template.New("").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("format %q: template parsing error: %s", format, templateCause(err))
	}
	return t, nil
}

// templateCause cuts the name that package template puts before its errors.
func templateCause(err error) string {
	_, cause, ok := strings.Cut(err.Error(), "template: ")
	if !ok {
		return err.Error()
	}
	return strings.TrimPrefix(cause, ":")
}

// templateFunctions are Docker's, on top of Go's own.
func templateFunctions() template.FuncMap {
	return template.FuncMap{
		"json":     jsonText,
		"split":    strings.Split,
		"join":     strings.Join,
		"title":    title,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      pad,
		"truncate": truncate,
	}
}

// headerFunctions leave a heading as it is where templateFunctions would change a value.
func headerFunctions() template.FuncMap {
	same := func(s string) string { return s }
	functions := templateFunctions()
	for _, name := range []string{"json", "title", "lower", "upper"} {
		functions[name] = same
	}
	functions["truncate"] = func(s string, _ int) string { return s }
	return functions
}

// jsonText is v as JSON on one line, without the escapes that only a web page needs.
func jsonText(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// title begins every word with a capital.
func title(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		start := !unicode.IsLetter(before) && !unicode.IsDigit(before) && before != '_' && before != '\''
		before = r
		if start {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

// pad puts blanks around s, unless it is empty.
func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

// truncate cuts s to n characters.
func truncate(s string, n int) string {
	if r := []rune(s); n >= 0 && len(r) > n {
		return string(r[:n])
	}
	return s
}

// printOne shows one value by a template, or as JSON on a line.
func printOne(w io.Writer, format string, v any) error {
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return fmt.Errorf("format %q: %s", format, templateCause(err))
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// printInspect shows what inspect found: without a format a JSON array indented by four, "json" the same on one line, else
// a line by the template for each. The template runs on the Go value first, and where that fails on its plain JSON, in
// which fields have their JSON names. Nothing found is an empty array, or an empty line.
func printInspect(w io.Writer, format string, found []any) error {
	var b bytes.Buffer
	if format == "" || format == "json" {
		if err := inspectJSON(&b, format == "", found); err != nil {
			return err
		}
		_, err := w.Write(b.Bytes())
		return err
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, v := range found {
		if err := inspectTemplate(&b, t, v); err != nil {
			return fmt.Errorf("format %q: template parsing error: %s", format, templateCause(err))
		}
		b.WriteByte('\n')
	}
	if len(found) == 0 {
		b.WriteByte('\n')
	}
	_, err = w.Write(b.Bytes())
	return err
}

func inspectJSON(w io.Writer, indent bool, found []any) error {
	if found == nil {
		found = []any{}
	}
	e := json.NewEncoder(escaping{w})
	e.SetEscapeHTML(false)
	if indent {
		e.SetIndent("", "    ")
	}
	return e.Encode(found)
}

// escaping writes JSON with escapes also where package json sees no need: for the control characters that it passes on, and
// that some terminals obey (DEL, and C1 with its one-character CSI). In JSON they can only stand inside strings.
type escaping struct{ w io.Writer }

// Write takes whole documents, so no character is cut in two.
func (e escaping) Write(b []byte) (int, error) {
	if !bytes.ContainsFunc(b, isTerminals) {
		return e.w.Write(b)
	}
	var out bytes.Buffer
	for _, r := range string(b) {
		if isTerminals(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	if _, err := e.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

func isTerminals(r rune) bool { return r >= ' ' && isControl(r) }

func inspectTemplate(b *bytes.Buffer, t *template.Template, v any) error {
	before := b.Len()
	first := t.Execute(b, v)
	if first == nil {
		return nil
	}
	b.Truncate(before)
	plain, err := plainJSON(v)
	if err != nil {
		return first
	}
	strict, err := t.Clone()
	if err != nil {
		return first
	}
	return strict.Option("missingkey=error").Execute(b, plain)
}

// plainJSON is v as maps, lists, strings and numbers, the numbers as they are written.
func plainJSON(v any) (plain any, err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err = d.Decode(&plain)
	return plain, err
}
