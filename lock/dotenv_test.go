package lock

import (
	"maps"
	"strings"
	"testing"
)

func TestParseDotenv(t *testing.T) {
	for _, test := range []struct {
		text string
		want map[string]string
	}{
		{"", nil},
		{"\ufeffA=1\r\nB = two words \r\n\r\n# C=3\n  export D=4\nE: 5\nF=\nG=#x\n", map[string]string{"A": "1", "B": "two words", "D": "4", "E": "5", "F": "", "G": ""}},
		{"A=x # comment\nB=x#y\nC='x # y' # z\nD=\"x # y\"#z", map[string]string{"A": "x", "B": "x#y", "C": "x # y", "D": "x # y"}},
		{"A=1\nB=$A-${A}${X:-y}\nC='$A'\nD=\"$A\"\nE=\"\\$A $$A\"\n", map[string]string{"A": "1", "B": "1-1y", "C": "$A", "D": "1", "E": "$A $A"}},
		{"A=\"1\n2\\n\\\"\\\\\"\nB='1\n2\\n'\nC=3", map[string]string{"A": "1\n2\n\"\\", "B": "1\n2\\n", "C": "3"}},
		{"A=1\nA=2\nB=$A", map[string]string{"A": "2", "B": "2"}},
		// What is the caller's environment's to say is left out.
		{"A\nB=$C\nD=1\nD=$C\nexport E\n", nil},
		{"A=https://x:1/?a=b", map[string]string{"A": "https://x:1/?a=b"}},
	} {
		got, err := ParseDotenv(test.text)
		if err != nil || !maps.Equal(got, test.want) {
			t.Errorf("%q: %q, %v; want %q", test.text, got, err, test.want)
		}
	}
	if got, err := ParseDotenv("A=x\n" + strings.Repeat("A=$A$A\n", 64)); err != nil || len(got["A"]) > maxExpanded {
		t.Errorf("%d bytes, %v", len(got["A"]), err)
	}
	for text, want := range map[string]string{
		"A=1\n=2": `line 2: "=2": want NAME=VALUE`, "A=1\n\nsome words": `line 3: "some words": want NAME=VALUE`, "A B=1": `line 1: "A B=1"`,
		"A='x\ny\n": "line 1: a ' is not closed", "A=1\nB=\"x\\\"": `line 2: a " is not closed`, "A='x' y": `line 1: "y" behind the closing '`,
	} {
		if got, err := ParseDotenv(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// FuzzParseDotenv: whatever stands in the file, reading ends, and an error names a line that there is.
func FuzzParseDotenv(f *testing.F) {
	for _, s := range []string{"A=1\nB=${A:-x}\n", "export A='x\ny' # z\nB: \"\\$A\\n\"", "A=\"", "=\n", "A=$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := ParseDotenv(text)
		if err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%q: %v", text, err)
		}
		for name := range values {
			if !strings.Contains(text, name) {
				t.Errorf("%q: %q", text, name)
			}
		}
	})
}
