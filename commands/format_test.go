package commands

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type thing struct {
	id, name string
	labels   map[string]string
}

func things() listing[thing] {
	return listing[thing]{
		columns: []column[thing]{
			{"ID", "THING ID", func(t thing) string { return t.id }},
			{"Names", "NAMES", func(t thing) string { return t.name }},
			{"Labels", "LABELS", func(t thing) string { return joinLabels(t.labels) }},
		},
		shown: "ID Names", quiet: "ID",
		labels: func(t thing) map[string]string { return t.labels },
	}
}

func TestListing(t *testing.T) {
	rows := []thing{{"1", "web<1>", map[string]string{"b": "2", "a.x": "1"}}, {"2", "a-very-long-name\x1b[31m", nil}}
	const header = "THING ID   NAMES\n"
	tests := []struct {
		name, format string
		quiet        bool
		want, err    string
	}{
		{"default", "", false, header + "1          web<1>\n2          a-very-long-name [31m\n", ""},
		{"table", "table", false, header + "1          web<1>\n2          a-very-long-name [31m\n", ""},
		{"quiet", "", true, "1\n2\n", ""},
		{"quiet beats table", "table {{.Names}}", true, "1\n2\n", ""},
		{"a template beats quiet", "{{.Names}}", true, "web<1>\na-very-long-name\x1b[31m\n", ""},
		{"template", `{{.ID}}\t{{upper .Names | printf "%.3s"}}\n`, false, "1\tWEB\n\n2\tA-V\n\n", ""},
		{"table template", `table {{.Names}}\t{{.ID}}`, false, "NAMES                   THING ID\nweb<1>                  1\na-very-long-name\x1b[31m   2\n", ""},
		{"table template with functions", `table {{upper .ID}}{{json .Names}}`, false, "THING IDNAMES\n1\"web<1>\"\n2\"a-very-long-name\\u001b[31m\"\n", ""},
		{"json", "json", false, `{"ID":"1","Labels":"a.x=1,b=2","Names":"web<1>"}` + "\n" + `{"ID":"2","Labels":"","Names":"a-very-long-name\u001b[31m"}` + "\n", ""},
		{"json of all", "{{json .}}", false, `{"ID":"1","Labels":"a.x=1,b=2","Names":"web<1>"}` + "\n" + `{"ID":"2","Labels":"","Names":"a-very-long-name\u001b[31m"}` + "\n", ""},
		{"label", `{{.Label "a.x"}}|{{.Label "none"}}`, false, "1|\n|\n", ""},
		{"functions", `{{join (split .ID "") "+"}} {{title .Names}} {{truncate .Names 3}} {{pad .ID 1 2}}| {{len .Names}}`, false,
			"1 Web<1> web  1  | 6\n2 A-Very-Long-Name\x1b[31m a-v  2  | 21\n", ""},
		{"unknown field", "{{.Bogus}}", false, "", `format "{{.Bogus}}": `},
		{"unknown field names the others", "{{.Bogus}}", false, "", "want one of ID Labels Names"},
		{"unknown field in a table", "table {{.Bogus}}", false, "", "want one of ID Labels Names"},
		{"unknown function", "{{bogus .ID}}", false, "", "template parsing error"},
		{"broken", "{{.ID", false, "", "template parsing error"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var b strings.Builder
			l := things()
			err := l.print(&b, test.format, test.quiet, rows)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || b.Len() > 0 {
					t.Errorf("error %v after %q, want %q", err, b.String(), test.err)
				}
				return
			}
			if err != nil || b.String() != test.want {
				t.Errorf("%v\ngot  %q\nwant %q", err, b.String(), test.want)
			}
		})
	}
}

func TestEmptyList(t *testing.T) {
	for format, want := range map[string]string{"": "THING ID   NAMES\n", "json": "", "table {{.ID}}": "THING ID\n", "{{.ID}}": ""} {
		var b strings.Builder
		l := things()
		if err := l.print(&b, format, false, nil); err != nil || b.String() != want {
			t.Errorf("%q: %q, %v", format, b.String(), err)
		}
	}
}

func TestEmptyListWithUnknownField(t *testing.T) {
	l := things()
	if err := l.print(new(strings.Builder), "{{.Bogus}}", false, nil); err == nil || !strings.Contains(err.Error(), "want one of") {
		t.Error(err)
	}
	if err := l.print(new(strings.Builder), `{{index (split .ID ",") 3}}`, false, nil); err != nil {
		t.Error(err)
	}
}

// TestDockerTable: the head of an empty docker ps, byte for byte.
func TestDockerTable(t *testing.T) {
	var l listing[int]
	for name := range strings.SplitSeq("CONTAINER ID,IMAGE,COMMAND,CREATED,STATUS,PORTS,NAMES", ",") {
		field := strings.ReplaceAll(name, " ", "")
		l.shown += " " + field
		l.columns = append(l.columns, column[int]{field, name, func(int) string { return "" }})
	}
	var b strings.Builder
	const want = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
	if err := l.print(&b, "", false, nil); err != nil || b.String() != want {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestPrintInspect(t *testing.T) {
	type state struct{ ExitCode int }
	type doc struct {
		ID     string `json:"Id"`
		State  state
		Labels map[string]string
	}
	found := []any{doc{"1", state{3}, map[string]string{"a": "<x>"}}, doc{"2", state{0}, nil}}
	tests := []struct {
		name, format string
		found        []any
		want, err    string
	}{
		{"array", "", found[:1], "[\n    {\n        \"Id\": \"1\",\n        \"State\": {\n            \"ExitCode\": 3\n        },\n" +
			"        \"Labels\": {\n            \"a\": \"<x>\"\n        }\n    }\n]\n", ""},
		{"nothing", "", nil, "[]\n", ""},
		{"json", "json", found[:1], `[{"Id":"1","State":{"ExitCode":3},"Labels":{"a":"<x>"}}]` + "\n", ""},
		{"template", "{{.State.ExitCode}} {{.ID}}", found, "3 1\n0 2\n", ""},
		{"JSON's own names", "{{.Id}}", found, "1\n2\n", ""},
		{"json of a part", "{{json .State}}", found[:1], `{"ExitCode":3}` + "\n", ""},
		{"missing key", "{{.Labels.nope}}", found[:1], "<no value>\n", ""},
		{"index", `{{index .Labels "a"}}`, found[:1], "<x>\n", ""},
		{"nothing by a template", "{{.ID}}", nil, "\n", ""},
		{"unknown field", "{{.ID}}{{.Bogus}}", found, "", "template parsing error"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var b strings.Builder
			err := printInspect(&b, test.format, test.found)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || b.String() != test.want {
				t.Errorf("%v\ngot  %q\nwant %q", err, b.String(), test.want)
			}
		})
	}
}

func TestHumanWords(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for back, want := range map[time.Duration]string{
		0: "Less than a second ago", -time.Hour: "Less than a second ago", 5 * time.Second: "5 seconds ago", 70 * time.Second: "About a minute ago",
		3 * time.Hour: "3 hours ago", 50 * time.Hour: "2 days ago", 35 * 24 * time.Hour: "5 weeks ago", 800 * 24 * time.Hour: "2 years ago",
	} {
		if got := ago(now.Add(-back), now); got != want {
			t.Errorf("%v: %q, want %q", back, got, want)
		}
	}
	if got := ago(time.Time{}, now); got != "N/A" {
		t.Error(got)
	}
	if got := diskSize(7_812_345); got != "7.81MB" {
		t.Error(got)
	}
	if got := ellipsis("sleep infinity and more", 20); got != "sleep infinity and …" {
		t.Error(got)
	}
}

func TestFilters(t *testing.T) {
	f, err := parseFilters([]string{"name=a", "Name=b", "label=x", "label=y=1", "label=y=2"}, "name", "label", "id")
	if err != nil {
		t.Fatal(err)
	}
	is := func(name string) func(string) bool { return func(v string) bool { return v == name } }
	if !f.match("name", is("a")) || !f.match("name", is("b")) || f.match("name", is("c")) || !f.match("id", is("c")) {
		t.Error("one key: want a or b, and no opinion on others")
	}
	for _, test := range []struct {
		labels map[string]string
		want   bool
	}{
		{map[string]string{"x": "", "y": "1"}, true}, {map[string]string{"x": "9", "y": "2"}, true},
		{map[string]string{"x": "", "y": "3"}, false}, {map[string]string{"y": "1"}, false}, {nil, false},
	} {
		if got := f.matchLabels(test.labels); got != test.want {
			t.Errorf("labels %v: %v", test.labels, got)
		}
	}
	if !(filters{}).matchLabels(nil) {
		t.Error("no filter on labels kept something out")
	}
	for in, want := range map[string]string{"bogus=1": `invalid filter "bogus": want one of id label name`, "name": "bad format of filter"} {
		if _, err := parseFilters([]string{in}, "name", "label", "id"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := parseBoolFilter("dangling", "x"); err == nil {
		t.Error("dangling=x was accepted")
	}
}

// TestProse: a name that a container has thought up reaches no terminal as a command, in a warning or an error.
func TestProse(t *testing.T) {
	const name = "a\x1b]0;b\x07\u009b31m\r\n\tc"
	var b strings.Builder
	report(&b, errors.New(name))
	if want := "hull: a ]0;b  31m \n\tc\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	(&session{err: f}).warn("%s", name)
	text, err := os.ReadFile(f.Name())
	if want := "hull: warning: a ]0;b  31m \n\tc\n"; string(text) != want || err != nil {
		t.Errorf("%q, want %q, %v", text, want, err)
	}
}
