package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const stream = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"run","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA/one"}
{"Action":"run","Package":"p","Test":"TestA/two"}
{"Action":"output","Package":"p","Test":"TestA/two","Output":"    --- SKIP: TestA/two (0.00s)\n"}
{"Action":"output","Package":"p","Test":"TestA/two","Output":"        a_test.go:7: needs root: mounts\n"}
{"Action":"skip","Package":"p","Test":"TestA/two"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:9: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}
`

func read(t *testing.T, text, as string) results {
	t.Helper()
	r, err := readEvents(strings.NewReader(text), as, false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReadEvents(t *testing.T) {
	r := read(t, stream, "root")
	if r.count(pass) != 1 || r.count(fail) != 1 || r.count(skip) != 1 {
		t.Errorf("counted %+v", r)
	}
	if got := r.skipped()[0].Reason; got != "needs root: mounts" {
		t.Errorf("reason %q", got)
	}
}

// A binary that dies has no failed test to show for it: the package itself is the failure.
func TestPackageFails(t *testing.T) {
	r := read(t, `{"Action":"output","Package":"p","Output":"panic: no\n"}
{"Action":"fail","Package":"p"}`, "root")
	if len(r) != 1 || r.good() || !strings.Contains(r[0].Output, "panic: no") {
		t.Errorf("got %+v", r)
	}
}

// What one account skips and another runs is no skip.
func TestSkippedByEverybody(t *testing.T) {
	other := strings.NewReplacer(`"skip"`, `"pass"`, `"TestB"`, `"TestC"`).Replace(stream)
	both := append(read(t, stream, "root"), read(t, other, "an ordinary user")...)
	if len(both.skipped()) != 0 {
		t.Errorf("got %+v", both.skipped())
	}
}

func TestMerge(t *testing.T) {
	dir := t.TempDir()
	file, allow := filepath.Join(dir, "events"), filepath.Join(dir, "allow")
	good := strings.NewReplacer(`"fail"`, `"pass"`).Replace(stream)
	if err := read(t, good, "root").save(file); err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(one, one...), 0o600) // of two runs, as vm-init.sh makes it
	}
	if err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]bool{"": false, "p TestA/.*: needs root # why": true, "# all\nother: .*": false} {
		if err := os.WriteFile(allow, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := merge([]string{file}, allow); err != nil || got != want {
			t.Errorf("with %q allowed: %v, %v", list, got, err)
		}
	}
}

func TestLeftoverFails(t *testing.T) {
	if o := nothingLeft([]string{"mount /x (overlay)"}); o.Status != fail || !strings.Contains(o.Output, "/x") {
		t.Errorf("got %+v", o)
	}
	if o := nothingLeft(nil); o.Status != pass {
		t.Errorf("got %+v", o)
	}
}

// A test whose own tests ran as one account is no skip because another account skips it as a whole.
func TestSkippedWithSubtests(t *testing.T) {
	r := results{{Package: "p", Test: "TestA/one", Status: pass}, {Package: "p", Test: "TestA", Status: skip}, {Package: "p", Test: "TestA/two", Status: skip}}
	if got := r.skipped(); len(got) != 1 || got[0].Test != "TestA/two" {
		t.Errorf("got %+v", got)
	}
}
