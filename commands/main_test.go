package commands

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hullrun/hull/run"
)

// TestMain lets this binary be what hull re-executes itself for: unpacking what belongs to subordinate ids.
func TestMain(m *testing.M) {
	if run.Helper() {
		return
	}
	os.Exit(m.Run())
}

// hull runs Main with files for its output, and returns status, standard output and standard error.
func hull(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	in, out, errs := open("in"), open("out"), open("err")
	code = Main(t.Context(), append([]string{"hull"}, args...), in, out, errs)
	text := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return code, text(out), text(errs)
}

func TestMainAnswers(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	tests := []struct {
		args        string
		code        int
		out, errors string // a part of each; "" wants none at all
	}{
		{"", 0, "Usage:  hull [OPTIONS] COMMAND", ""},
		{"help", 0, "Usage:  hull [OPTIONS] COMMAND", ""},
		{"--help", 0, "Usage:  hull [OPTIONS] COMMAND", ""},
		{"-h", 0, "Usage:  hull [OPTIONS] COMMAND", ""},
		{"help version", 0, "Usage:  hull version [OPTIONS]", ""},
		{"version --help", 0, "Usage:  hull version [OPTIONS]", ""},
		{"version -h", 0, "Usage:  hull version [OPTIONS]", ""},
		{"image", 0, "Usage:  hull image COMMAND", ""},
		{"image --help", 0, "  inspect   Show all that is known of images", ""},
		{"help container", 0, "Usage:  hull container COMMAND", ""},
		{"help image rm", 0, "Usage:  hull rmi [OPTIONS] IMAGE [IMAGE...]", ""},
		{"image rm --help", 0, "Also:  hull image rm, hull image remove", ""},
		{"image bogus", 1, "", "unknown command: hull image bogus"},
		{"image --bogus", 125, "", "unknown flag: --bogus"},
		{"run --help", 0, "Isolation:\n", ""},
		{"run", 1, "", "'hull run' requires at least 1 argument"},
		{"run --bogus x", 125, "", "hull: unknown flag: --bogus\n\nRun 'hull run --help' for more information\n"},
		{"--version", 0, "hull version ", ""},
		{"-v", 0, "hull version ", ""},
		{"-v version", 0, "hull version ", ""},
		{"version", 0, "Client:\n Version:", ""},
		{"version --format {{.Server.Os}}", 0, "linux\n", ""},
		{"version -f json", 0, `{"Client":{"Version":`, ""},
		{"version -f {{.Bogus}}", 1, "", `hull: format "{{.Bogus}}": `},
		{"version -f {{", 1, "", "template parsing error"},
		{"version x", 1, "", "hull: 'hull version' accepts no arguments\n\nRun 'hull version --help' for more information\n"},
		{"completion", 1, "", "requires 1 argument"},
		{"completion tcsh", 1, "", `completion "tcsh": want bash, zsh or fish`},
		{"completion bash", 0, "complete -o bashdefault", ""},
		{"completion zsh", 0, "#compdef hull", ""},
		{"completion fish", 0, "complete -r -c hull", ""},
		{"bogus", 1, "", "hull: unknown command: hull bogus\n"},
		{"verzion", 1, "", "Did you mean 'hull version'?"},
		{"help bogus", 1, "", "unknown command: hull bogus"},
		{"--bogus", 125, "", "hull: unknown flag: --bogus\n\nRun 'hull --help' for more information\n"},
		{"-x", 125, "", "unknown shorthand flag: 'x' in -x"},
		{"--root", 125, "", "flag needs an argument: --root"},
		{"run --volum a:b x", 125, "", "hull: unknown flag: --volum\n\nDid you mean '--volume'?\nRun 'hull run --help' for more information\n"},
		{"--rot x", 125, "", "Did you mean '--root'?\nRun 'hull --help'"},
		{"version --bogus", 125, "", "hull: unknown flag: --bogus\n\nRun 'hull version --help' for more information\n"},
		{"--log-level loud version", 125, "", `--log-level "loud": want debug`},
		{"--debug=perhaps version", 125, "", `--debug "perhaps": want true or false`},
		{"-H tcp://x --tls version", 0, "Client:", "hull: warning: --host, --context and --tls*: ignored"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			code, out, errs := hull(t, strings.Fields(test.args)...)
			if code != test.code {
				t.Errorf("status %d, want %d", code, test.code)
			}
			for _, s := range []struct{ name, got, want string }{{"stdout", out, test.out}, {"stderr", errs, test.errors}} {
				if s.want == "" && s.got != "" || !strings.Contains(s.got, s.want) {
					t.Errorf("%s is %q, want %q", s.name, s.got, s.want)
				}
			}
		})
	}
}

func TestDockerHostIsMentioned(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://elsewhere")
	if code, _, errs := hull(t, "version"); code != 0 || strings.Count(errs, "DOCKER_HOST=tcp://elsewhere: ignored") != 1 {
		t.Error(code, errs)
	}
}

// TestTable: no spelling stands for two commands, every flag is spelled once, and every command explains itself.
func TestTable(t *testing.T) {
	spellings := map[string]bool{}
	for _, v := range table() {
		for name := range strings.SplitSeq(v.names, "|") {
			if spellings[name] || strings.Count(name, " ") > 1 {
				t.Errorf("command %q", name)
			}
			spellings[name] = true
		}
		if v.usage == "" || v.group == "" || strings.HasSuffix(v.usage, ".") {
			t.Errorf("%s: usage %q in group %q", v.name(), v.usage, v.group)
		}
		flags, _ := v.setup(&session{})
		checkFlags(t, v.name(), flags)
	}
	checkFlags(t, "hull", (&session{}).globals())
	checkFlags(t, "run", newWishes().runFlags())
}

func checkFlags(t *testing.T, verb string, flags []*option) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range flags {
		for _, name := range append([]string{o.name, string(o.short)}, o.also...) {
			if name != "\x00" && seen[name] || len(o.name) < 2 {
				t.Errorf("%s: flag %q", verb, name)
			}
			seen[name] = true
		}
		if o.hidden == (o.usage != "") || strings.HasSuffix(o.usage, ".") {
			t.Errorf("%s: --%s: hidden %v, usage %q", verb, o.name, o.hidden, o.usage)
		}
	}
}

func TestReport(t *testing.T) {
	tests := []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{errors.New("rm \"x\": No such container: x"), 1, "hull: rm \"x\": No such container: x\n"},
		{&ExitError{Code: 3}, 3, ""},
		{&ExitError{Code: 125, Err: errors.New("bad"), Hint: "Run 'hull run --help' for more information"}, 125,
			"hull: bad\n\nRun 'hull run --help' for more information\n"},
		{fmt.Errorf("start: %w", &ExitError{Code: 127, Err: errors.New("not found")}), 127, "hull: start: not found\n"},
		{fmt.Errorf("start: %w", coded(126)), 126, "hull: start: coded\n"},
		{runFailure(coded(126)), 126, "hull: coded\n\nRun 'hull run --help' for more information\n"},
		{runFailure(errors.New("no image")), 125, "hull: no image\n\nRun 'hull run --help' for more information\n"},
		{errors.Join(errors.New("one"), errors.New("two")), 1, "hull: one\nhull: two\n"},
		{fmt.Errorf("%w%w", errors.New("one"), errors.New("")), 1, "hull: one\n"},
		{fmt.Errorf("%w: %w", errors.New("one"), coded(3)), 3, "hull: one: coded\n"},
	}
	for _, test := range tests {
		var b strings.Builder
		if code := report(&b, test.err); code != test.code || b.String() != test.text {
			t.Errorf("%v: %d %q, want %d %q", test.err, code, b.String(), test.code, test.text)
		}
	}
}

type coded int

func (coded) Error() string   { return "coded" }
func (c coded) ExitCode() int { return int(c) }
