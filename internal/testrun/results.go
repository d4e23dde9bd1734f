package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// How a test ended, in the words of test2json.
const (
	pass = "pass"
	fail = "fail"
	skip = "skip"
)

// outcome is one test, run by one account. A package that failed outside its tests has an empty Test.
type outcome struct {
	Package, Test string
	As            string
	Status        string
	Output        string // of a test that did not pass
	Reason        string // of a skip
}

type results []outcome

// event is a line of test2json's output (cmd/test2json).
type event struct {
	Action, Package, Test, Output string
}

func (r *results) add(o outcome) { *r = append(*r, o) }

// readEvents turns test2json's output into outcomes. A test with subtests is not counted beside them, unless it failed
// by itself. Lines that are not events are the test binary's own words, and passed on.
func readEvents(in io.Reader, as string, verbose bool) (results, error) {
	var all results
	output := map[string]*strings.Builder{}
	parents := map[string]bool{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println(lines.Text())
			continue
		}
		if output[e.Test] == nil {
			output[e.Test] = &strings.Builder{}
		}
		switch e.Action {
		case "output":
			output[e.Test].WriteString(e.Output)
			if verbose {
				fmt.Print(e.Output)
			}
		case "run":
			if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
				parents[e.Test[:i]] = true
			}
		case pass, fail, skip:
			all = append(all, outcome{Package: e.Package, Test: e.Test, As: as, Status: e.Action, Output: output[e.Test].String()})
		}
	}
	return tidy(all, parents), lines.Err()
}

// tidy leaves out what is said elsewhere: parents of subtests, packages, the output of what passed.
func tidy(all results, parents map[string]bool) results {
	failed := func(prefix string) bool {
		return slices.ContainsFunc(all, func(o outcome) bool {
			return o.Status == fail && o.Test != "" && strings.HasPrefix(o.Test, prefix)
		})
	}
	var kept results
	for _, o := range all {
		switch {
		case o.Test == "" && (o.Status != fail || failed("")):
			continue
		case parents[o.Test] && (o.Status != fail || failed(o.Test+"/")):
			continue
		case o.Status == pass:
			o.Output = ""
		case o.Status == skip:
			o.Reason, o.Output = reason(o.Output), ""
		}
		kept = append(kept, o)
	}
	return kept
}

// reason finds the words given to t.Skip in a test's output: the lines that are no frame, without file and line.
func reason(output string) string {
	place := regexp.MustCompile(`^\S+\.go:\d+: `)
	var words []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		words = append(words, place.ReplaceAllString(line, ""))
	}
	text := strings.Join(words, " ")
	if _, after, ok := strings.Cut(text, " SKIP: "); ok { // a testscript's log stands before it
		text = after
	}
	if len(text) > 200 {
		text = "…" + text[len(text)-200:]
	}
	return text
}

func (r results) count(status string) (n int) {
	for _, o := range r {
		if o.Status == status {
			n++
		}
	}
	return n
}

func (r results) good() bool { return r.count(fail) == 0 }

// line prints one package's result, and in full what failed.
func (r results) line(w io.Writer, pkg string, took time.Duration) {
	word := "ok  "
	if !r.good() {
		word = "FAIL"
	}
	fmt.Fprintf(w, "%s  %-50s %6.1fs  %d passed, %d failed, %d skipped\n", word, pkg, took.Seconds(), r.count(pass), r.count(fail), r.count(skip))
	for _, o := range r {
		if o.Status == fail {
			fmt.Fprintf(w, "----- %s %s as %s\n%s", o.Package, o.Test, o.As, o.Output)
		}
	}
}

// skipped returns the tests that nobody has run, one outcome each.
func (r results) skipped() results {
	ran := map[string]bool{}
	for _, o := range r {
		if o.Status == skip {
			continue
		}
		// Only the innermost tests are counted: where one of its own ran, a test ran.
		for test := o.Test; test != ""; test = test[:max(0, strings.LastIndexByte(test, '/'))] {
			ran[o.Package+" "+test] = true
		}
	}
	var only results
	for _, o := range r {
		if id := o.Package + " " + o.Test; o.Status == skip && !ran[id] {
			ran[id] = true
			only = append(only, o)
		}
	}
	return only
}

// print lists what was skipped and what failed, and ends with the line that counts.
func (r results) print(w io.Writer) {
	skipped := r.skipped()
	if len(skipped) > 0 {
		fmt.Fprintln(w, "\nSkipped by everybody:")
	}
	for _, o := range skipped {
		fmt.Fprintf(w, "  %s %s: %s\n", o.Package, o.Test, o.Reason)
	}
	if !r.good() {
		fmt.Fprintln(w, "\nFailed:")
	}
	for _, o := range r {
		if o.Status == fail {
			fmt.Fprintf(w, "  %s %s as %s\n", o.Package, o.Test, o.As)
			if o.As == "everybody" {
				fmt.Fprint(w, o.Output)
			}
		}
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", r.count(pass), r.count(fail), len(skipped))
}

func (r results) save(path string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
