package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// merge adds up the outcomes of several runs: what was skipped in one may have run in another. It returns whether
// nothing failed and every test that ran nowhere is on the list of those that may.
func merge(paths []string, allow string) (bool, error) {
	allowed, err := readAllowed(allow)
	if err != nil {
		return false, err
	}
	var all results
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		for d := json.NewDecoder(bytes.NewReader(text)); ; { // of as many runs as it holds
			var part results
			err := d.Decode(&part)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return false, fmt.Errorf("parse %s: %w", path, err)
			}
			all = append(all, part...)
		}
	}
	all.print(os.Stdout)
	bad := 0
	for _, o := range all.skipped() {
		if !allowed.match(o) {
			fmt.Printf("should have run here: %s %s (%s)\n", o.Package, o.Test, o.Reason)
			bad++
		}
	}
	return bad == 0 && all.good(), nil
}

// allowList is the patterns of tests that may be skipped.
type allowList []*regexp.Regexp

func (a allowList) match(o outcome) bool {
	for _, p := range a {
		if p.MatchString(o.Package + " " + o.Test + ": " + o.Reason) {
			return true
		}
	}
	return false
}

// readAllowed reads a pattern a line; # begins a comment. A pattern matches "PACKAGE TEST: REASON".
func readAllowed(path string) (allowList, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var a allowList
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := regexp.Compile(text)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", path, err)
		}
		a = append(a, p)
	}
	return a, lines.Err()
}
