package main

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/hullrun/hull/ns/early"
)

const module = "github.com/hullrun/hull"

// bottom are the packages on which all others stand. They know nothing of one another.
var bottom = []string{"registry", "layers", "ns", "cgroups", "network"}

// heavy must not be linked: each compiles tables or regular expressions when a process starts, which every start of a
// container would pay, or is big and not needed.
var heavy = map[string]string{
	"github.com/santhosh-tekuri/jsonschema": "compiles all meta-schemas at start, 4 ms",
	"github.com/google/gopacket":            "4 ms at start",
	"github.com/gopacket/gopacket":          "4 ms at start",
	"github.com/distribution/reference":     "0.6 ms of regular expressions at start",
	"github.com/vbauerster/mpb":             "its regular expressions and widths of letters, 0.7 ms at start where page faults are dear",
	"github.com/russross/blackfriday":       "0.3 ms at start; left out by the tag urfave_cli_no_docs",
}

// imports lists what go list prints for a template, a word each.
func imports(t *testing.T, template string, packages ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-tags", "urfave_cli_no_docs,nethttpomithttp2", "-f", template}, packages...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if exit.Stderr != nil && strings.Contains(string(exit.Stderr), "permission denied") {
			t.Skipf("needs the go command: %s", exit.Stderr)
		}
		t.Fatalf("go list: %s", exit.Stderr)
	} else if err != nil {
		t.Skipf("needs the go command: %v", err)
	}
	return strings.Fields(string(out))
}

// within tells whether the import path pkg is one of module's folder name or below it.
func within(pkg, name string) bool {
	return pkg == module+"/"+name || strings.HasPrefix(pkg, module+"/"+name+"/")
}

// TestImportsFall: arrows only fall. The five at the bottom import neither one another nor anything above them.
func TestImportsFall(t *testing.T) {
	edges := imports(t, `{{$p := .ImportPath}}{{range .Imports}}{{$p}}>{{.}} {{end}}{{range .TestImports}}{{$p}}>{{.}} {{end}}`, "./...")
	for _, edge := range edges {
		from, to, _ := strings.Cut(edge, ">")
		for _, b := range bottom {
			if !within(from, b) || !strings.HasPrefix(to, module+"/") {
				continue
			}
			if !within(to, b) && !within(to, "internal") {
				t.Errorf("%s imports %s", from, to)
			}
		}
		if within(from, "lock") && strings.HasPrefix(to, module+"/") && !within(to, "lock") && !within(to, "registry") && !within(to, "internal") {
			t.Errorf("%s imports %s: what an image is called is all that it knows", from, to)
		}
		if within(from, "run") && within(to, "commands") {
			t.Errorf("%s imports %s", from, to)
		}
		if !within(from, "commands") && from != module && strings.HasPrefix(to, "github.com/urfave/cli") {
			t.Errorf("%s imports %s: below commands there is no command line", from, to)
		}
	}
}

// TestImportsEarly: what the re-executed child runs before all other packages must not wait for any of them. This binary,
// re-executed like hull with a program that is not there, tells what the runtime has initialised by then: itself, and
// few that come earlier in the alphabet and wait for nothing either.
func TestImportsEarly(t *testing.T) {
	for _, path := range imports(t, `{{range .Imports}}{{.}} {{end}}`, "./ns/early") {
		if path != "unsafe" {
			t.Errorf("ns/early imports %s", path)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{early.Env + "=1000", "GODEBUG=inittrace=1"}
	out, _ := cmd.CombinedOutput()
	if trace := string(out); !strings.Contains(trace, "init runtime @") || strings.Contains(trace, "init syscall @") || strings.Count(trace, "\n") > 8 {
		t.Errorf("initialised before ns/early:\n%s", trace)
	}
}

// TestImportsLight: nothing dear is linked into hull.
func TestImportsLight(t *testing.T) {
	for _, path := range imports(t, `{{range .Deps}}{{.}} {{end}}`, ".") {
		for name, why := range heavy {
			if path == name || strings.HasPrefix(path, name+"/") {
				t.Errorf("hull links %s: %s", path, why)
			}
		}
	}
}
