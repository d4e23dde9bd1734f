package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPage: every test that docs/security.md names exists, and every promise and every vulnerability in it names
// one, or says in so many words that there is none.
func TestSecurityPage(t *testing.T) {
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z/0-9]+)\\.((?:Test|Fuzz)\\w+)`|`([a-z0-9-]+)\\.txtar`")
	for _, m := range named.FindAllStringSubmatch(string(text), -1) {
		if m[3] != "" {
			if _, err := os.Stat("testdata/scripts/" + m[3] + ".txtar"); err != nil {
				t.Error(err)
			}
		} else if !hasTest(t, m[1], m[2]) {
			t.Errorf("%s: no such test", m[0])
		}
	}
	rows, empty := 0, regexp.MustCompile(`not there yet|not stopped|does not apply|no test`)
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "- **") && !strings.HasPrefix(line, "| CVE-") {
			continue
		}
		if rows++; !named.MatchString(line) && !empty.MatchString(line) {
			t.Errorf("no test shows this: %s", line)
		}
	}
	if rows < 60 {
		t.Errorf("%d promises and vulnerabilities: was the page read?", rows)
	}
}

// hasTest looks for a test in a folder's files.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		} else if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
