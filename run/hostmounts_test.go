package run

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseHostMounts(t *testing.T) {
	got := parseHostMounts(`22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /a\040b\134 rw master:1 propagate_from:2 - tmpfs shared:9 rw
24 22 0:5 /sub /c rw shared:3 master:1 - tmpfs x rw
25 22 0:5 / /d rw - tmpfs x rw
short
`)
	want := []hostMount{{"22", "/", true, false}, {"23", `/a b\`, false, true}, {"24", "/c", true, true}, {"25", "/d", false, false}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(hostMount{})); diff != "" {
		t.Error(diff)
	}
}

// ownMount makes a mount on the host that takes part in propagation, or not.
func ownMount(t *testing.T, propagation uintptr) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: to mount on the host")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", propagation, ""); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"host", "inner"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPropagation: what the host mounts below a bind arrives with rslave and rshared, what the container mounts leaves it
// with rshared, and that not from a user namespace.
func TestPropagation(t *testing.T) {
	for _, userns := range []string{"", "one-id"} {
		t.Run(userns, func(t *testing.T) {
			src := ownMount(t, unix.MS_SHARED)
			config := verbConfig(t, "mounts")
			config.Isolation.Privileged, config.Isolation.Userns, config.Process.Interactive = true, userns, true
			for target, p := range map[string]string{"/private": "", "/slave": "rslave", "/shared": "rshared"} {
				config.Files.Mounts = append(config.Files.Mounts, MountSpec{Type: MountBind, Source: src, Target: target, Propagation: p})
			}
			inR, inW, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			outR, outW, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer inR.Close()
			defer outR.Close()
			c := create(t, testHost(t), config)
			ended := make(chan error, 1)
			go func() {
				_, err := c.Run(context.Background(), IO{inR, outW, os.Stderr})
				outW.Close()
				ended <- err
			}()
			lines := bufio.NewScanner(outR)
			next := func() string { lines.Scan(); return lines.Text() }
			if got := next(); got != "ready" {
				t.Fatal(got, <-ended)
			}
			if err := unix.Mount("tmpfs", src+"/host", "tmpfs", 0, "size=1m"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(src+"/host/x", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := inW.WriteString("\n"); err != nil {
				t.Fatal(err)
			}
			if got := []string{next(), next(), next(), next()}; !slices.Equal(got, []string{"/private false", "/slave true", "/shared true", "mounted"}) {
				t.Errorf("%q", got)
			}
			var want []string
			if userns == "" {
				want = []string{"from-shared"}
			}
			if got := names(src + "/inner"); !slices.Equal(got, want) {
				t.Errorf("on the host: %q, want %q", got, want)
			}
			if _, err := inW.WriteString("\n"); err != nil {
				t.Error(err)
			}
			inW.Close()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPropagationRefused: a mount of the host that takes no part is an error, not a silence.
func TestPropagationRefused(t *testing.T) {
	private := ownMount(t, unix.MS_PRIVATE)
	for propagation, want := range map[string]string{"rslave": "is not a shared or slave mount", "slave": "not a shared or slave", "rshared": "it is not a shared mount", "shared": "not a shared mount"} {
		config := verbConfig(t, "exit", "CODE=0")
		config.Files.Mounts = []MountSpec{{Type: MountBind, Source: private + "/host", Target: "/x", Propagation: propagation}}
		_, err := create(t, testHost(t), config).Run(context.Background(), IO{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "is mounted on "+private) {
			t.Errorf("%s: %v", propagation, err)
		}
	}
	// What is mounted below a source cannot be left out in a user namespace.
	if err := unix.Mount("tmpfs", private+"/host", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	config := verbConfig(t, "exit", "CODE=0")
	config.Isolation.Userns = "one-id"
	config.Files.Mounts = []MountSpec{{Type: MountBind, Source: private, Target: "/x", NonRecursive: true}}
	_, err := create(t, testHost(t), config).Run(context.Background(), IO{})
	if err == nil || !strings.Contains(err.Error(), private+"/host is mounted below") {
		t.Error(err)
	}
	config.Files.Mounts[0].Source += "/inner"
	if _, err := create(t, testHost(t), config).Run(context.Background(), IO{}); err != nil {
		t.Error(err)
	}
}
