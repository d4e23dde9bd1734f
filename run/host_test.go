package run

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestDefaultRoot(t *testing.T) {
	t.Setenv("HULL_ROOT", "/from/env")
	if dir, err := DefaultRoot(); err != nil || dir != "/from/env" {
		t.Error(dir, err)
	}
	t.Setenv("HULL_ROOT", "")
	if os.Geteuid() == 0 {
		if dir, err := DefaultRoot(); err != nil || dir != "/var/lib/hull" {
			t.Error(dir, err)
		}
		return
	}
	for _, row := range []struct{ data, home, want string }{
		{"/d", "/h", "/d/hull"}, {"relative", "/h", "/h/.local/share/hull"}, {"", "/h", "/h/.local/share/hull"}, {"", "", ""},
	} {
		t.Setenv("XDG_DATA_HOME", row.data)
		t.Setenv("HOME", row.home)
		dir, err := DefaultRoot()
		if dir != row.want || (err != nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), "\nset HOME or XDG_DATA_HOME") {
			t.Errorf("%+v: %s, %v", row, dir, err)
		}
	}
}

// TestConfigFiles: which files count, and what of two that both speak.
func TestConfigFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HULL_CONFIG", "")
	want := []string{"/etc/hull/config.json"}
	if os.Geteuid() != 0 {
		want = append(want, filepath.Join(dir, "hull/config.json"))
	}
	if got := ConfigFiles(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	named := write("named", `{"registries": {"x": {"http": true}}}`)
	t.Setenv("HULL_CONFIG", named)
	if s, err := new(Host).Settings(); err != nil || !s.Registries["x"].HTTP {
		t.Errorf("%+v, %v", s, err)
	}
	t.Setenv("HULL_CONFIG", named+"-not")
	if _, err := new(Host).Settings(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was named must be there: %v", err)
	}
	var s Settings
	for _, name := range []string{
		write("system", `{"registries": {"x": {"http": true}, "y": {"http": true}}, "store": {"budget": "10% free"}}`),
		write("user", `{"registries": {"x": {"mirrors": ["m"]}}, "store": {"budget": "3GB"}}`),
		write("none", `{}`),
	} {
		more, err := readSettings(name)
		if err != nil {
			t.Fatal(err)
		}
		s.join(more)
	}
	if !s.Registries["y"].HTTP || s.Registries["x"].HTTP || len(s.Registries["x"].Mirrors) != 1 || s.Store.Budget != (Budget{Bytes: 3e9}) {
		t.Errorf("%+v", s)
	}
}

func TestSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	h := &Host{ConfigFile: file}
	if _, err := h.Settings(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was named must be there: %v", err)
	}
	for text, want := range map[string]string{
		`{"registries": {"docker.io": {"mirrors": ["https://m"], "http": true}}}`: "",
		`{"registries": {"docker.io": {"mirors": []}}}`:                           `read configuration "` + file + `": json: unknown field "mirors"`,
		`{"store": {"budget": "20GB"}}`:                                           "",
		`{"store": {"budged": "20GB"}}`:                                           `unknown field "budged"`,
		`{"registries": {"*": {"mirrors": ["https://m"]}}}`:                       "want {registry} in its path",
		`{"registries": {"*": {"http": true}}}`:                                   "by its name",
		`{"registries": {"*": {"mirrors": ["https://m/{registry}"]}}}`:            "",
		`{} {}`: "behind the closing brace",
		`{}`:    "", `{"registries": 5}`: `read configuration "` + file + `": json: cannot unmarshal`, `{`: "unexpected EOF",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := h.Settings()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
		if r := s.Registries["docker.io"]; want == "" && strings.Contains(text, "docker.io") && (len(r.Mirrors) != 1 || !r.HTTP) {
			t.Errorf("%+v", s)
		}
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Client(); err == nil {
		t.Error("a client from a broken configuration")
	}
}

func TestIdentity(t *testing.T) {
	own := func(inside, outside int) []specs.LinuxIDMapping { return oneMap(inside, outside) }
	uid, gid := os.Geteuid(), os.Getegid()
	same := func(a, b []specs.LinuxIDMapping) bool { return len(a) == 1 && a[0] == b[0] }
	for _, row := range []struct {
		rootless     bool
		userns       string
		safe         bool
		inUID, inGID int // -1: no user namespace

		want string
	}{
		{false, "", false, -1, -1, ""}, {false, "host", false, -1, -1, ""}, {false, "one-id", false, 0, 0, ""},
		{false, "auto", false, 0, 0, ""}, {false, "sub-ids", false, 0, 0, `userns "sub-ids": as root`}, {true, "auto", true, 0, 0, ""},
		{true, "", true, 0, 0, ""}, {true, "one-id", false, 0, 0, ""}, {true, "nomap", false, 0, 0, ""},
		{true, "keep-id", false, uid, gid, ""}, {true, "keep-id:uid=33,gid=44", false, 33, 44, ""}, {true, "keep-id:uid=5", false, 5, gid, ""},
		{true, "keep-id:uid=x", false, 0, 0, "userns keep-id:uid=x"},
	} {
		h := &Host{rootless: row.rootless}
		id, err := h.identity(row.userns, row.safe)
		if row.want != "" {
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%+v: %v", row, err)
			}
			continue
		}
		if err != nil || id.UserNS != (row.inUID >= 0) || id.UserNS && (!id.OneID || !same(id.UIDs, own(row.inUID, uid)) || !same(id.GIDs, own(row.inGID, gid))) {
			t.Errorf("%+v: %+v, %v", row, id, err)
		}
	}
	id := one(33)
	if err := id.checkUser(specs.User{UID: 33, GID: 33}); err != nil {
		t.Error(err)
	}
	if err := id.checkUser(specs.User{UID: 34, GID: 33}); err == nil || !strings.Contains(err.Error(), "user 34:33: no such id") ||
		!strings.Contains(err.Error(), "--userns=keep-id:uid=34,gid=33") {
		t.Error(err)
	}
	if err := (Identity{}).checkUser(specs.User{UID: 1 << 20}); err != nil {
		t.Error(err)
	}
}
