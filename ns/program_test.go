package ns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExecErrors tries to run what cannot be run. The world is there, so the error is the program's own.
func TestExecErrors(t *testing.T) {
	for _, row := range []struct {
		name, program string
		prepare       func(b *box)
		code          int
		want          string
	}{
		{"missing", "/no/such", nil, 127, `exec "/no/such": no such file or directory`},
		{"not in PATH", "nosuch", nil, 127, `exec "nosuch": executable file not found in $PATH`},
		{"directory", "/etc", nil, 126, `exec "/etc": permission denied`},
		{"directory in PATH", "etc", nil, 126, `exec "etc": permission denied`},
		{"no x bit", "/plain", func(b *box) { b.put("plain", "text", 0o644) }, 126, `exec "/plain": permission denied`},
		{"no x bit in PATH", "plain", func(b *box) { b.put("plain", "text", 0o644) }, 126, `exec "plain": permission denied`},
		{"no format", "/text", func(b *box) { b.put("text", "text", 0o755) }, 126, `exec "/text": exec format error`},
		{"empty", "/none", func(b *box) { b.put("none", "", 0o755) }, 126, `exec "/none": exec format error`},
		{"no interpreter", "/script", func(b *box) { b.put("script", "#!/no/such\n", 0o755) }, 127, `exec "/script": no such file or directory`},
		{"file as directory", "/t/x", nil, 127, `exec "/t/x": not a directory`},
		{"loop", "/loop", func(b *box) { b.link("loop", "loop") }, 126, `exec "/loop": too many levels of symbolic links`},
	} {
		t.Run(row.name, func(t *testing.T) {
			both(t, func(t *testing.T, reexec bool) {
				b := newBox(t, "look")
				b.Reexec = reexec
				if row.prepare != nil {
					row.prepare(b)
				}
				b.Spec.Process.Args[0] = row.program
				o := b.run()
				var e *ExecError
				if !errors.As(o.failure, &e) || e.ExitCode() != row.code || e.Error() != row.want {
					t.Errorf("%v, want %d: %s", o.failure, row.code, row.want)
				}
				b.Init = true
				if o := b.run(); !errors.As(o.failure, &e) || e.ExitCode() != row.code || e.Error() != row.want {
					t.Errorf("with init: %v, want %d: %s", o.failure, row.code, row.want)
				}
			})
		})
	}
}

// TestPath looks programs up as execvp(3) does: in order, the last PATH counts, unusable files are passed over, and what
// is relative is left out.
func TestPath(t *testing.T) {
	for _, row := range []struct{ env, name, want string }{
		{"PATH=/a:/b", "p", "/a/p /b/p"}, {"PATH=/a::b:./c:/d", "p", "/a/p /d/p"}, {"PATH=/a", "/x/p", "/x/p"}, {"PATH=/a", "./p", "./p"},
		{"PATH=/a PATH=/b", "p", "/b/p"}, {"HOME=/", "p", "/usr/bin/p /bin/p"}, {"PATH=", "p", "/usr/bin/p /bin/p"},
	} {
		b := newBox(t, "look")
		b.Spec.Process.Env, b.Spec.Process.Args = strings.Fields(row.env), []string{row.name}
		if got := strings.Join((&birth{Cmd: b.Cmd, spec: b.Spec}).candidates(), " "); got != row.want {
			t.Errorf("%s, %s: %q, want %q", row.env, row.name, got, row.want)
		}
	}
	b := newBox(t, "look")
	b.put("a/t", "not to be run", 0o644)
	b.put("b/t/", "", 0)
	b.Spec.Process.Args[0] = "t"
	b.env("PATH=/a:/b:/c:/")
	if v := b.look(); v.Exe != "/t" || v.Args[0] != "t" {
		t.Errorf("%s as %q", v.Exe, v.Args)
	}
	b = newBox(t, "look")
	b.put("script", "#!/t first\n", 0o755)
	b.Spec.Process.Args = []string{"/script", "second"}
	if v := b.look(); strings.Join(v.Args, " ") != "/t first /script second" {
		t.Errorf("script: %q", v.Args)
	}
}

// TestOwnExecutable: an image may name /proc/self/exe as an interpreter (CVE-2019-5736). It must never get the host's
// hull under that name, or only one that nobody can write to.
func TestOwnExecutable(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var host unix.Stat_t
	if err := unix.Stat(self, &host); err != nil {
		t.Fatal(err)
	}
	// It becomes the stub, which executes the script again, and so on: look at it on the way.
	b := newBox(t, "look")
	b.put("script", "#!/proc/self/exe\n", 0o755)
	b.Spec.Process.Args = []string{"/script"}
	p, err := b.Create()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err == nil {
		for range 50 {
			var st unix.Stat_t
			if unix.Stat("/proc/"+itoa(p.Pid)+"/exe", &st) == nil && st.Ino == host.Ino && st.Dev == host.Dev {
				t.Error("the interpreter is hull's own file")
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	_ = p.Signal(unix.SIGKILL)
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}

	// Re-executed it is hull, on a read-only mount of its own.
	b = newBox(t, "try")
	b.Reexec = true
	b.put("script", "#!/proc/self/exe protected /proc/self/exe\n", 0o755)
	b.Spec.Process.Args = []string{"/script"}
	o := b.run()
	if !strings.HasPrefix(o.out, "ok\n") {
		t.Errorf("hull's own file is protected: %q %q, %v", o.out, o.err, o.failure)
	}
}

// TestStepErrors: an error names the step that failed and what it was about.
func TestStepErrors(t *testing.T) {
	unknown := "no such device"
	if os.Geteuid() != 0 {
		unknown = "operation not permitted"
	}
	for _, row := range []struct {
		name    string
		prepare func(b *box)
		want    string
	}{
		{"file system", func(b *box) { b.Spec.Mounts[1].Type = "nosuchfs" }, "mount nosuchfs on /proc: " + unknown},
		{"option", func(b *box) { b.Spec.Mounts[2].Options = []string{"colour=red"} }, "mount tmpfs on /dev with colour=red: invalid argument"},
		{"lower directory", func(b *box) { b.Spec.Mounts[0].Options[0] = "lowerdir=nosuch" }, "mount overlay on /: no such file or directory"},
		{"root", func(b *box) { b.Spec.Root.Path = "/no/such" }, "mount overlay on /: no such file or directory"},
		{"layers", func(b *box) { b.Spec.Mounts[0].Source = "/no/such" }, "enter /no/such: no such file or directory"},
		{"bind", func(b *box) {
			b.Spec.Mounts[1].Type, b.Spec.Mounts[1].Source = "bind", "/no/such"
		}, `mount on "/proc": stat /no/such: no such file or directory`},
		{"target", func(b *box) { b.Spec.Mounts[6].Destination = "/t/x" }, "mount tmpfs on /t/x: not a directory"},
		{"working directory", func(b *box) { b.Spec.Process.Cwd = "/t" }, "enter working directory /t: not a directory"},
		{"hostname", func(b *box) { b.Spec.Hostname = strings.Repeat("x", 65) }, "set hostname " + strings.Repeat("x", 65) + ": invalid argument"},
		{"files", func(b *box) { b.Files = []File{{"/t/x", nil}} }, "mount a file on /t/x: not a directory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			both(t, func(t *testing.T, reexec bool) {
				b := newBox(t, "look")
				b.Reexec = reexec
				row.prepare(b)
				if o := b.run(); o.failure == nil || o.failure.Error() != row.want {
					t.Errorf("%v, want %s", o.failure, row.want)
				}
			})
		})
	}
}

// TestStubNumber: the stub reads its socket's number from two bytes that are never zero.
func TestStubNumber(t *testing.T) {
	for _, fd := range []int{0, 3, 63, 64, 1000, 4095} {
		s := stubNumber(fd)
		if got := int(s[0]&0x3f) | int(s[1]&0x3f)<<6; got != fd || strings.ContainsRune(s, 0) || len(s) != 2 {
			t.Errorf("%d: %q reads as %d", fd, s, got)
		}
	}
	b := newBox(t, "look")
	var open []*os.File
	for range 600 { // a socket beyond 512
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	if v := b.look(); v.Fds != nil {
		t.Error(v.Fds)
	}
	b = newBox(t, "look")
	b.Spec.Process.Args[0] = "/no/such"
	if o := b.run(); o.failure == nil || !strings.Contains(o.failure.Error(), "no such file") {
		t.Error(o.failure)
	}
}

func TestStubIsSealed(t *testing.T) {
	for _, code := range []func() (start, end uintptr){stubCode, initCode, joinCode} {
		f, err := stubFile(code)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("written to: %v", err)
		}
		if data, err := os.ReadFile(filepath.Join("/proc/self/fd", itoa(int(f.Fd())))); err != nil || len(data) > 1000 || string(data[1:4]) != "ELF" {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	}
}
