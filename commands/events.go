package commands

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/hullrun/hull/run"
)

// eventMessage is an event as templates and JSON show it: with the names of Docker's API, the old ones too.
type eventMessage struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	Type   string
	Action string
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
	Scope    string `json:"scope,omitempty"`
	Time     int64  `json:"time,omitempty"` // seconds since 1970
	TimeNano int64  `json:"timeNano,omitempty"`
}

func newEventMessage(e run.Event) *eventMessage {
	m := &eventMessage{Type: e.Type, Action: e.Action, Scope: "local", Time: e.Time.Unix(), TimeNano: e.Time.UnixNano()}
	m.Actor.ID, m.Actor.Attributes = e.ID, e.Attributes
	if e.Type == "container" || e.Type == "image" {
		m.Status, m.ID = e.Action, e.ID
	}
	if e.Type == "container" {
		m.From = e.Attributes["image"]
	}
	return m
}

// eventLine is an event as docker events prints it: TIME TYPE ACTION ID (KEY=VALUE, ...).
func eventLine(e run.Event) string {
	line := e.Time.Local().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + e.Type + " " + e.Action + " " + e.ID
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(e.Attributes)) {
		pairs = append(pairs, key+"="+e.Attributes[key])
	}
	if len(pairs) > 0 {
		line += " (" + strings.Join(pairs, ", ") + ")"
	}
	return oneCell(line) + "\n"
}

func eventsCommand(s *session) ([]*option, action) {
	var since, until, format string
	var words []string
	flags := []*option{
		text(&since, "since", "TIME", "begin with the events of this time, or so long ago (10m)"),
		text(&until, "until", "TIME", "end with the events of this time"),
		list(&words, "filter,f", "KEY=VALUE", "leave out what does not match; the same key twice is an or"),
		text(&format, "format", "FORMAT", "print each by a Go template, or 'json'"),
	}
	return flags, func(ctx context.Context, _ []string) error {
		f, err := parseFilters(words, "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin",
			"scope", "secret", "service", "type", "volume")
		if err != nil {
			return err
		}
		var span [2]time.Time
		for i, value := range []string{since, until} {
			if value == "" {
				continue
			}
			if span[i], err = run.ParseTime(value, time.Now()); err != nil {
				return err
			}
		}
		show, err := eventPrinter(s.out, format)
		if err != nil {
			return err
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		return h.Events(ctx, span[0], span[1], func(e run.Event) error {
			if !f.matchEvent(e) {
				return nil
			}
			return show(e)
		})
	}
}

// eventPrinter gives what prints an event. A template that cannot work is an error before the first one.
func eventPrinter(w io.Writer, format string) (func(run.Event) error, error) {
	if format == "" {
		return func(e run.Event) error {
			_, err := io.WriteString(w, eventLine(e))
			return err
		}, nil
	}
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parseTemplate(format)
	if err != nil {
		return nil, err
	}
	show := func(w io.Writer, e run.Event) error { return executeEvent(w, t, format, e) }
	if err := show(io.Discard, run.Event{}); err != nil {
		return nil, err
	}
	return func(e run.Event) error { return show(w, e) }, nil
}

func executeEvent(w io.Writer, t *template.Template, format string, e run.Event) error {
	var b bytes.Buffer
	if err := t.Execute(&b, newEventMessage(e)); err != nil {
		return fmt.Errorf("format %q: %s", format, templateCause(err))
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// matchEvent tells whether an event passes all filters. Those that name a thing want events about such things: network
// leaves out all events of containers.
func (f filters) matchEvent(e run.Event) bool {
	if !f.match("type", func(v string) bool { return v == e.Type }) || !f.match("event", func(v string) bool { return isAction(e, v) }) ||
		!f.match("scope", func(v string) bool { return v == "local" }) || !f.match("image", func(v string) bool { return isAboutImage(e, v) }) {
		return false
	}
	for _, kind := range []string{"config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"} {
		if !f.match(kind, func(v string) bool {
			return e.Type == kind && (strings.HasPrefix(e.ID, v) || strings.HasPrefix(e.Attributes["name"], v))
		}) {
			return false
		}
	}
	return f.matchLabels(e.Attributes)
}

// isAction tells whether v names the event's action. What follows a colon may be left out: exec_start of "exec_start: sh".
func isAction(e run.Event, v string) bool {
	name, _, _ := strings.Cut(e.Action, ":")
	return v == e.Action || v == name
}

// isAboutImage tells whether an event is about an image or a container made from it, with its tag or without.
func isAboutImage(e run.Event, v string) bool {
	name := e.Attributes["name"]
	if e.Type != "image" {
		name = e.Attributes["image"]
	}
	for _, s := range []string{e.ID, name} {
		if s == v || withoutTag(s) == v {
			return true
		}
	}
	return false
}

func withoutTag(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
