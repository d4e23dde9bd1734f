package commands

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hullrun/hull/run"
	"github.com/urfave/cli/v2"
)

// option is one flag of a verb: a cli.Flag whose value goes straight to where it belongs.
//
// The library's own flag types would do, but for four things: they split lists and cut blanks; an alias sets a list twice;
// their names pass through a regular expression at every look (1.7 ms for as many flags as run has); and they swallow
// the cause of a bad value.
type option struct {
	// name is the long name, also are further ones; short is a letter or 0.
	name  string
	also  []string
	short byte
	// arg is what help calls the value; "" makes the flag a switch.
	arg   string
	usage string
	// group is the heading in help, "" for the first.
	group string
	// hidden flags work but are not shown in help.
	hidden bool

	set func(string) error
	// shown is the default, for help.
	shown string
	seen  bool
	err   error
	// spellings makes Names return every spelling, for completion scripts.
	spellings bool
}

var (
	_ cli.DocGenerationFlag = (*option)(nil)
	_ cli.VisibleFlag       = (*option)(nil)
	_ cli.Generic           = (*option)(nil)
)

// Apply adds the flag to a set under its long name; splitArgs has rewritten all others to that one.
func (o *option) Apply(set *flag.FlagSet) error {
	set.Var(o, o.name, o.usage)
	return nil
}

// Set takes one value, and keeps the error that package flag would turn into text.
func (o *option) Set(value string) error {
	o.seen = true
	o.err = o.set(value)
	return o.err
}

// String is the flag as help shows it.
func (o *option) String() string {
	if o == nil || o.name == "" {
		return "" // package flag makes an empty one to compare defaults with
	}
	return o.head() + "\t" + o.usage
}

// Names returns the long name; the short one too when a completion script is made.
func (o *option) Names() []string {
	if o.spellings && o.short != 0 {
		return []string{o.name, string(o.short)}
	}
	return []string{o.name}
}

// The rest of cli's interfaces.

func (o *option) IsSet() bool            { return o.seen }
func (o *option) IsVisible() bool        { return !o.hidden }
func (o *option) IsBoolFlag() bool       { return o.arg == "" }
func (o *option) TakesValue() bool       { return o.arg != "" }
func (o *option) GetUsage() string       { return o.usage }
func (o *option) GetValue() string       { return o.shown }
func (o *option) GetDefaultText() string { return o.shown }
func (o *option) GetEnvVars() []string   { return nil }

// head is the left column of help: "-v, --volume SPEC".
func (o *option) head() string {
	text := "    "
	if o.short != 0 {
		text = "-" + string(o.short) + ", "
	}
	text += "--" + o.name
	if o.arg != "" {
		text += " " + o.arg
	}
	return text
}

// opt makes a flag from its names ("volume,v": a single letter is the short one), the word for its value in help,
// its explanation and what takes the value.
func opt(names, arg, usage string, set func(string) error) *option {
	o := &option{arg: arg, usage: usage, set: set}
	for more := true; more; {
		var name string
		name, names, more = strings.Cut(names, ",")
		switch {
		case len(name) == 1:
			o.short = name[0]
		case o.name == "":
			o.name = name
		default:
			o.also = append(o.also, name)
		}
	}
	return o
}

// toggle makes a switch: --name, --name=false.
func toggle(to *bool, names, usage string) *option { return opt(names, "", usage, boolTo(to)) }

// text makes a flag that keeps its last value as it is.
func text(to *string, names, arg, usage string) *option { return opt(names, arg, usage, stringTo(to)) }

// list makes a flag that collects its values as they are: no comma splits one, no blank is cut.
func list(to *[]string, names, arg, usage string) *option {
	return opt(names, arg, usage, each(to, asIs))
}

// in puts flags under a heading of help.
func in(group string, flags ...*option) []*option {
	for _, f := range flags {
		f.group = group
	}
	return flags
}

// def notes a default for help.
func (o *option) def(shown string) *option {
	o.shown = shown
	return o
}

func asIs(s string) (string, error) { return s, nil }

func stringTo(to *string) func(string) error {
	return func(s string) error {
		*to = s
		return nil
	}
}

// one keeps the last value that parse accepts.
func one[T any](to *T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*to = v
		}
		return err
	}
}

// each collects the values that parse accepts.
func each[T any](to *[]T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*to = append(*to, v)
		}
		return err
	}
}

// ref keeps a pointer to the last value, so that nil means that the flag was not given.
func ref[T any](to **T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*to = &v
		}
		return err
	}
}

// pairs collects KEY=VALUE into a map; a key alone has an empty value.
func pairs(to *map[string]string, parse func(string) (key, value string, err error)) func(string) error {
	return func(s string) error {
		key, value, err := parse(s)
		if err != nil {
			return err
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[key] = value
		return nil
	}
}

func boolTo(to *bool) func(string) error {
	return func(s string) error {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return errValue{s, "want true or false"}
		}
		*to = v
		return nil
	}
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errValue{s, "want a whole number"}
	}
	return n, nil
}

func parseInt64(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, errValue{s, "want a whole number"}
	}
	return n, nil
}

func parseUint64(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errValue{s, "want a whole number, not negative"}
	}
	return n, nil
}

// setTimeout takes a time limit and its grace.
func setTimeout(limit, grace *time.Duration) func(string) error {
	return func(s string) (err error) {
		*limit, *grace, err = run.ParseTimeout(s)
		return err
	}
}

// parseBytes reads an amount as run.ParseBytes does, whose error says nothing of the flag.
func parseBytes(s string) (int64, error) {
	n, err := run.ParseBytes(s)
	if err != nil {
		return 0, errValue{s, err.Error()}
	}
	return n, nil
}

// errValue is a value that does not fit its flag, which has yet to be named.
type errValue struct{ value, cause string }

func (e errValue) Error() string { return fmt.Sprintf("%q: %s", e.value, e.cause) }

// failure is what Set ran into, with the flag's name where the error does not say what it is about.
func (o *option) failure() error {
	var v errValue
	if errors.As(o.err, &v) {
		return fmt.Errorf("--%s %w", o.name, o.err)
	}
	return o.err
}
