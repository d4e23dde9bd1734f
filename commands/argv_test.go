package commands

import (
	"errors"
	"strings"
	"testing"
)

// sampleFlags are one of each kind.
func sampleFlags(env, volumes *[]string) []*option {
	var b bool
	var s string
	return []*option{
		toggle(&b, "interactive,i", ""), toggle(&b, "tty,t", ""), toggle(&b, "detach,d", ""), toggle(&b, "rm", ""),
		toggle(&b, "force,f", ""), list(env, "env,e", "X", ""), list(volumes, "volume,v", "X", ""),
		text(&s, "publish,p", "X", ""), text(&s, "workdir,w", "X", ""), text(&s, "network,net", "X", ""), text(&s, "time", "X", ""),
	}
}

func TestSplitArgs(t *testing.T) {
	tests := []struct {
		name, in string
		ordered  bool
		want     string // flags, "|", the other words, all with blanks between
		err      string
	}{
		{"nothing", "", false, "|", ""},
		{"long", "--env A=1 --rm c", false, "--env=A=1 --rm=true|c", ""},
		{"long with equals", "--env=A=1 --rm=false c", false, "--env=A=1 --rm=false|c", ""},
		{"a switch takes no word", "--rm false", false, "--rm=true|false", ""},
		{"alias", "--net host", false, "--network=host|", ""},
		{"short", "-e A=1 c", false, "--env=A=1|c", ""},
		{"glued", "-p8080:80 -v/a:/w -w/x -eK=V", false, "--publish=8080:80 --volume=/a:/w --workdir=/x --env=K=V|", ""},
		{"glued with equals", "-e=K=V -p=1", false, "--env=K=V --publish=1|", ""},
		{"switches", "-itd", false, "--interactive=true --tty=true --detach=true|", ""},
		{"switches and a value", "-ite K=V c", false, "--interactive=true --tty=true --env=K=V|c", ""},
		{"switches and a glued value", "-iteK=V c", false, "--interactive=true --tty=true --env=K=V|c", ""},
		{"short switch with a value", "-t=false -it=false", false, "--tty=false --interactive=true --tty=false|", ""},
		{"value that looks like a flag", "--env --rm -e -x", false, "--env=--rm --env=-x|", ""},
		{"comma and blank", "--env A=1,2", false, "--env=A=1,2|", ""},
		{"flags after words", "c1 -f c2 --time 3", false, "--force=true --time=3|c1 c2", ""},
		{"ordered stops at the first word", "--rm c -f --bogus", true, "--rm=true|c -f --bogus", ""},
		{"two dashes", "-f -- -x --rm", false, "--force=true|-x --rm", ""},
		{"two dashes, ordered", "--rm -- -c -x", true, "--rm=true|-c -x", ""},
		{"two dashes as a command's word", "c -- -x", true, "|c -- -x", ""},
		{"a dash is a word", "- -f", false, "--force=true|-", ""},

		{"unknown", "--bogus", false, "", "unknown flag: --bogus"},
		{"unknown with a value", "--bogus=1", false, "", "unknown flag: --bogus"},
		{"no prefixes", "--environment", false, "", "unknown flag: --environment"},
		{"unknown short", "-x", false, "", "unknown shorthand flag: 'x' in -x"},
		{"unknown in a cluster", "-ixt", false, "", "unknown shorthand flag: 'x' in -ixt"},
		{"unknown letter", "-ä", false, "", "unknown shorthand flag: 'ä' in -ä"},
		{"no value", "--env", false, "", "flag needs an argument: --env"},
		{"no value for short", "-ie", false, "", "flag needs an argument: 'e' in -ie"},
		{"bad syntax", "---x", false, "", "bad flag syntax: ---x"},
		{"bad syntax with equals", "--=x", false, "", "bad flag syntax: --=x"},
		{"help", "c --help", false, "", "help requested"},
		{"short help", "-h", false, "", "help requested"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, err := splitArgs(strings.Fields(test.in), sampleFlags(new([]string), new([]string)), test.ordered)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(w.flags, " ") + "|" + strings.Join(w.args, " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestUnknownFlagsAreUsageErrors(t *testing.T) {
	for _, in := range []string{"--bogus", "-x", "--env", "---"} {
		_, err := splitArgs([]string{in}, sampleFlags(new([]string), new([]string)), false)
		if codeOf(err, 0) != exitUsage {
			t.Errorf("%s: status %d", in, codeOf(err, 0))
		}
	}
}

// FuzzSplitArgs: whatever is typed, no word is lost, and what comes out holds only known flags before "--".
func FuzzSplitArgs(f *testing.F) {
	for _, s := range []string{"-itd\n-eK=V\nc", "--env=\n--\n-x", "-", "--net=host\n-ie", "-\xff"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, ordered bool) {
		in := strings.Split(s, "\n")
		known := sampleFlags(new([]string), new([]string))
		w, err := splitArgs(in, known, ordered)
		if err != nil {
			if !errors.As(err, new(errHelp)) && codeOf(err, 0) != exitUsage {
				t.Errorf("%q: %v", in, err)
			}
			return
		}
		for _, flag := range w.flags {
			name, _, ok := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
			if !ok || findLong(known, name) == nil {
				t.Errorf("%q: flag %q", in, flag)
			}
		}
		if len(w.args) > len(in) {
			t.Errorf("%q: args %q", in, w.args)
		}
	})
}
