package commands

import (
	"strings"
	"testing"
	"time"

	"github.com/hullrun/hull/run"
)

func TestEventLine(t *testing.T) {
	e := run.Event{Type: "container", Action: "die", ID: "0123", Time: time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC),
		Attributes: map[string]string{"name": "web", "exitCode": "3", "odd": "a\nb"}}
	old := time.Local
	time.Local = time.FixedZone("X", 2*3600)
	defer func() { time.Local = old }()
	if got := eventLine(e); got != "2026-05-06T09:08:09.000000010+02:00 container die 0123 (exitCode=3, name=web, odd=a b)\n" {
		t.Errorf("%q", got)
	}
	e.Attributes, e.Type = nil, "image"
	if got := eventLine(e); got != "2026-05-06T09:08:09.000000010+02:00 image die 0123\n" {
		t.Errorf("%q", got)
	}
}

func TestEventFormat(t *testing.T) {
	e := run.Event{Type: "container", Action: "die", ID: "0123", Time: time.Unix(5, 6), Attributes: map[string]string{"image": "busybox"}}
	for format, want := range map[string]string{
		"json": `{"status":"die","id":"0123","from":"busybox","Type":"container","Action":"die","Actor":{"ID":"0123","Attributes":{"image":"busybox"}},` +
			`"scope":"local","time":5,"timeNano":5000000006}` + "\n",
		"{{.Type}} {{.Actor.Attributes.image}} {{.ID}}": "container busybox 0123\n",
	} {
		var b strings.Builder
		show, err := eventPrinter(&b, format)
		if err == nil {
			err = show(e)
		}
		if err != nil || b.String() != want {
			t.Errorf("%s: %s, %v", format, b.String(), err)
		}
	}
	for _, format := range []string{"{{", "{{.Nothing}}"} {
		if _, err := eventPrinter(nil, format); err == nil {
			t.Errorf("%s: no error", format)
		}
	}
}

func TestMatchEvent(t *testing.T) {
	web := run.Event{Type: "container", Action: "exec_start: sh", ID: "0123abcd",
		Attributes: map[string]string{"name": "web", "image": "localhost:5000/app:1", "tier": "front"}}
	image := run.Event{Type: "image", Action: "pull", ID: "app:2", Attributes: map[string]string{"name": "app"}}
	for _, row := range []struct {
		filters    string
		web, image bool
	}{
		{"", true, true}, {"type=image", false, true}, {"type=image type=container", true, true},
		{"event=exec_start", true, false}, {"event=exec", false, false}, {"event=pull event=tag", false, true},
		{"container=web", true, false}, {"container=0123", true, false}, {"container=abcd", false, false},
		{"image=localhost:5000/app", true, false}, {"image=localhost:5000/app:1", true, false}, {"image=app", false, true}, {"image=app:2", false, true},
		{"label=tier", true, false}, {"label=tier=front", true, false}, {"label=tier=back", false, false},
		{"volume=web", false, false}, {"network=web", false, false}, {"daemon=x", false, false}, {"scope=local", true, true},
		{"type=container event=pull", false, false},
	} {
		f, err := parseFilters(strings.Fields(row.filters), "type", "event", "container", "image", "label", "volume", "network", "daemon", "scope")
		if err != nil {
			t.Fatal(err)
		}
		if w, i := f.matchEvent(web), f.matchEvent(image); w != row.web || i != row.image {
			t.Errorf("%q: %v %v", row.filters, w, i)
		}
	}
}
