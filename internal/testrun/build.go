package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

const tags = "urfave_cli_no_docs,nethttpomithttp2" // as in the Makefile

// suite is one package's compiled tests.
type suite struct {
	Package string
	Dir     string // of the source, relative to the module's root
	Binary  string // relative to the stage; empty if the tests do not compile
	Output  string // of the compiler, if it said anything
}

// build compiles the tests of the packages that match, hull itself and test2json into stage, which also gets a copy of
// the source tree (src) and of ../shared/images (shared/images), so that tests find both where they expect them. The
// result is saved as stage/suites.json. A package that does not compile is part of it.
func build(stage string, patterns []string) ([]suite, error) {
	root, err := goCommand(".", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, err
	}
	suites, err := list(root, patterns)
	if err != nil {
		return nil, err
	}
	if err := copyTree(filepath.Join(stage, "src"), root); err != nil {
		return nil, err
	}
	images := filepath.Join(filepath.Dir(root), "shared", "images")
	if err := copyTree(filepath.Join(stage, "shared", "images"), images); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	stage, err = filepath.Abs(stage)
	if err != nil {
		return nil, err
	}
	if err := tools(root, stage); err != nil {
		return nil, err
	}
	compile(root, stage, suites)
	text, err := json.MarshalIndent(suites, "", "\t")
	if err != nil {
		return nil, err
	}
	return suites, os.WriteFile(filepath.Join(stage, "suites.json"), text, 0o644)
}

// tools puts hull (as make built it, or else built now), test2json, this program and OCI's conformance tests into
// stage/bin. The latter have a module of their own, so that hull's names nothing that only they need.
func tools(root, stage string) error {
	bin := filepath.Join(stage, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for name, pkg := range map[string]string{"test2json": "cmd/test2json", "testrun": "./internal/testrun"} {
		if _, err := goCommand(root, "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(bin, name), pkg); err != nil {
			return err
		}
	}
	_, err := goCommand(filepath.Join(root, "testdata", "conformance"), "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(bin, "conformance"),
		"github.com/opencontainers/distribution-spec/conformance")
	if err != nil {
		return err
	}
	err = copyFile(filepath.Join(bin, "hull"), filepath.Join(root, "bin", "hull"), 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = goCommand(root, "build", "-trimpath", "-tags", tags, "-ldflags=-s -w", "-o", filepath.Join(bin, "hull"), ".")
	}
	return err
}

// list returns the packages that have tests. One that does not even parse counts as having some.
func list(root string, patterns []string) ([]suite, error) {
	format := "{{if or .TestGoFiles .XTestGoFiles .Error}}{{.ImportPath}}\t{{.Dir}}{{end}}"
	out, err := goCommand(root, append([]string{"list", "-e", "-tags", tags, "-f", format}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var suites []suite
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		path, dir, ok := strings.Cut(lines.Text(), "\t")
		if !ok {
			continue
		}
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return nil, err
		}
		suites = append(suites, suite{Package: path, Dir: rel})
	}
	if len(suites) == 0 {
		return nil, fmt.Errorf("find tests in %s: there are none", strings.Join(patterns, " "))
	}
	return suites, nil
}

// compile fills in Binary and Output of each suite, several at a time.
func compile(root, stage string, suites []suite) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for i := range suites {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s := &suites[i]
			name := filepath.Join("bin", strings.ReplaceAll(s.Package, "/", "_")+".test")
			_, err := goCommand(root, "test", "-c", "-trimpath", "-tags", tags, "-o", filepath.Join(stage, name), s.Package)
			if err != nil {
				s.Output = err.Error()
			} else if _, err := os.Stat(filepath.Join(stage, name)); err == nil {
				s.Binary = name
			}
		})
	}
	wg.Wait()
}

// goCommand runs the go command in dir, without cgo, and returns what it printed.
func goCommand(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// copyTree copies the regular files and symbolic links of from into to, readable for everybody, leaving out what git
// and make keep for themselves.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case rel == ".git" || rel == "bin":
			return skipEntry(e)
		case e.IsDir():
			return os.MkdirAll(target, 0o755)
		case e.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case e.Type().IsRegular():
			info, err := e.Info()
			if err != nil {
				return err
			}
			return copyFile(target, path, info.Mode().Perm()|0o444)
		}
		return nil
	})
}

func skipEntry(e fs.DirEntry) error {
	if e.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func copyFile(to, from string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// removeAll removes dir even where a test has left folders without write permission in it.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
	}
}
