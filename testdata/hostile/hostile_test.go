package hostile

import (
	"context"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/hullrun/hull/commands"
	"github.com/hullrun/hull/run"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "hull" || os.Getenv("_HULL_HELPER") != "" {
		if run.Helper() {
			return
		}
		os.Exit(commands.Main(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	if os.Getenv(launchEnv) != "" {
		os.Exit(launch(os.Args[1:]))
	}
	flag.Parse()
	debug.SetGCPercent(30)
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestHostile runs every attack through hull pull and hull run, in a store of its own.
func TestHostile(t *testing.T) {
	var reg Registry
	srv := httptest.NewServer(&reg)
	t.Cleanup(srv.Close)
	reg.Put("good", finished(Good()))
	// The target is the same for all, so that one that is hit is noticed by everybody.
	target := canary(t)
	names := map[string]bool{}
	t.Run("cases", func(t *testing.T) {
		for _, c := range Cases(target) {
			if names[c.Name] {
				t.Errorf("two cases are called %s", c.Name)
			}
			names[c.Name] = true
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, strings.TrimPrefix(srv.URL, "http://"), target)
				r.attack(c, &reg)
				r.unharmed()
			})
		}
	})
	if len(names) < 40 {
		t.Errorf("%d cases", len(names))
	}
}

// TestHostileArchives has hull load refuse what would take all memory, or the disk. A good image runs afterwards.
func TestHostileArchives(t *testing.T) {
	var reg Registry
	srv := httptest.NewServer(&reg)
	t.Cleanup(srv.Close)
	reg.Put("good", finished(Good()))
	target := canary(t)
	for _, a := range Archives() {
		t.Run(a.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, strings.TrimPrefix(srv.URL, "http://"), target)
			f, err := os.Create(filepath.Join(r.dir, "archive.tar"))
			r.must(err)
			r.must(a.Make(f))
			r.must(f.Close())
			r.want(r.hull("load", "-i", f.Name()), a.Load, 1)
			if left := r.hull("images", "-q"); left.out != "" {
				t.Errorf("there are images: %v", left)
			}
			r.unharmed()
		})
	}
}

func finished(m *Image) *Image {
	m.Finish()
	return m
}

// attack runs one case.
func (r *rig) attack(c Case, reg *Registry) {
	m := Good()
	c.Make(m)
	image := r.offer(c, m, reg)
	if c.Endless {
		r.interrupted(c, image)
		return
	}
	pulled := r.hull("pull", image)
	r.want(pulled, c.Pull, 1)
	if c.Pull != "" {
		if c.Once {
			return
		}
		r.want(r.hull("run", "--rm", "--network", "none", image), c.Pull, 125)
		return
	}
	ran := r.hull(append(append([]string{"run", "--rm", "--network", "none"}, c.Flags...), image)...)
	code := c.Code
	if code == 0 {
		code = 125
	}
	switch {
	case c.Run != "" || c.Code == 0:
		r.want(ran, c.Run, code)
	case ran.code != c.Code:
		r.t.Errorf("want status %d: %v", c.Code, ran)
	}
	if c.Run == "" && c.Code == 0 && !strings.HasSuffix(ran.out, Said) {
		r.t.Errorf("the program did not say its word: %v", ran)
	}
	for _, words := range c.After {
		r.want(r.hull(strings.Fields(strings.ReplaceAll(words, "IMAGE", image))...), "", 0)
	}
	r.inside(c, image)
}

// offer puts the image where hull is to find it, and gives its name.
func (r *rig) offer(c Case, m *Image, reg *Registry) string {
	switch {
	case m.Archive != nil:
		path := filepath.Join(r.dir, "archive.tar")
		f, err := os.Create(path)
		r.must(err)
		r.must(WriteTar(f, m.Archive))
		r.must(f.Close())
		return "docker-archive:" + path
	case m.Layout != nil:
		dir := filepath.Join(r.dir, "layout")
		r.must(finished(m).WriteLayout(func(name string, content []byte) error {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			return os.WriteFile(path, content, 0o644)
		}))
		r.must(m.Layout(dir))
		return "oci:" + dir
	}
	if m.Alone {
		reg = new(Registry)
		srv := httptest.NewServer(reg)
		r.t.Cleanup(srv.Close)
		reg.Put("", m)
		reg.Put(c.Name, finished(m))
		return strings.TrimPrefix(srv.URL, "http://") + "/" + c.Name
	}
	reg.Put(c.Name, finished(m))
	r.t.Cleanup(func() { reg.Put(c.Name, nil) }) // its bytes are not wanted any more
	return r.registry + "/" + c.Name
}

// inside looks into a container for what the case says is there.
func (r *rig) inside(c Case, image string) {
	for path, content := range c.Inside {
		r.want(r.hull("create", "--name", "look", image), "", 0)
		got := r.hull("cp", "look:"+path, "-")
		r.want(got, "", 0)
		if !strings.Contains(got.out, content) {
			r.t.Errorf("%q is not in %q", content, path)
		}
		r.want(r.hull("rm", "look"), "", 0)
	}
}

// unharmed looks at the host and the store after an attack.
func (r *rig) unharmed() {
	if now := snapshot(r.t, r.target); now != r.before {
		r.t.Errorf("the host was touched: before\n%s\nnow\n%s", r.before, now)
	}
	for _, path := range []string{"/hull-canary", "/canary", "/etc/evil", "/etc/secret"} {
		if _, err := os.Lstat(path); err == nil {
			r.t.Errorf("%s is there", path)
		}
	}
	entries, err := os.ReadDir(r.dir)
	r.must(err)
	for _, e := range entries {
		if name := e.Name(); name != "root" && name != "home" && name != "archive.tar" && name != "layout" && name != "hull" {
			r.t.Errorf("%s is beside the store", name)
		}
	}
	good := r.hull("run", "--rm", "--network", "none", r.registry+"/good")
	r.want(good, "", 0)
	if !strings.HasSuffix(good.out, Said) {
		r.t.Errorf("a good image does not run: %v", good)
	}
	r.want(r.hull("system", "check"), "", 0)
}

// canary makes the folder that attacks aim at.
func canary(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "canary")
	for _, err := range []error{
		os.Mkdir(dir, 0o750),
		os.WriteFile(filepath.Join(dir, "secret"), []byte("somebody:x:0:0:secret:/:\n"), 0o640),
		os.WriteFile(filepath.Join(dir, "program"), program(), 0o750),
		os.Mkdir(filepath.Join(dir, "folder"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// snapshot is all that is to see of a folder.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %d %v %s", path, fi.Mode(), fi.Size(), fi.ModTime(), owner(fi))
		if fi.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", content)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
