package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/ns"
)

// TestMain makes this test's binary be hull when it is called by that name, so that scripts run the real main. Where
// $HULL_BIN names a hull that was built already, as in make test, scripts run that one.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hull": main})
}

//go:embed testdata/until.sh
var untilScript []byte

// TestScripts performs the sessions in testdata/scripts. Each has a store of its own below its working directory.
//
// Each finds until.sh there, which waits for what it is told, and says so if that does not come.
//
// Beside testscript's own words scripts know "status N COMMAND...", which wants exactly that exit status, "image DIR
// VOLUME...", which makes an OCI layout of busybox with volumes, "listening PORT", which waits until somebody listens there
// on loopback ($PORT1 and $PORT2 are free at the start, and no other script's), "keys" and "sign" (see there), "explained", which wants hull
// system df to agree with du about $HULL_ROOT, and the conditions root, userns (somebody who is not root may make user
// namespaces), landlock4 (Landlock knows TCP), mapped (mounts may have mapped ids, for root), v1 and v2 (of cgroups, v2
// being the unified tree), bridge (root may make networks), shared (real images, whose folder is $SHARED), gnu (the usual
// tools are GNU's, not busybox's), slow (somebody has the time: $HULL_TEST_SLOW is set) and ci (all has to be performed as
// it is meant: $CI is set).
func TestScripts(t *testing.T) {
	shared, err := filepath.Abs(cmp.Or(os.Getenv("HULL_TEST_IMAGES"), "../shared/images"))
	if err != nil {
		t.Fatal(err)
	}
	// testscript leaves its own folder behind when not every script is chosen.
	t.Setenv("GOTMPDIR", t.TempDir())
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/scripts",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("HULL_ROOT", filepath.Join(env.WorkDir, "root"))
			env.Setenv("SHARED", shared)
			if built := os.Getenv("HULL_BIN"); built != "" {
				env.Setenv("PATH", filepath.Dir(built)+":"+env.Getenv("PATH"))
			}
			for _, name := range []string{"PORT1", "PORT2"} {
				port, giveBack, err := ownPort()
				if err != nil {
					return err
				}
				env.Setenv(name, port)
				env.Defer(giveBack)
			}
			env.Defer(func() { emptyStore(env) })
			return errors.Join(os.MkdirAll(home, 0o700), os.WriteFile(filepath.Join(env.WorkDir, "until.sh"), untilScript, 0o644))
		},
		Condition: func(name string) (bool, error) { return condition(name, shared) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status, "listening": listening, "explained": explained, "keys": keys, "sign": sign,
			"image": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(volumeImage(shared, ts.MkAbs(args[0]), args[1:]))
			},
			"links": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(linkImage(shared, ts.MkAbs(args[0]), args[1:]))
			}},
	})
}

// emptyStore ends what a script has left running, which it may if it fails, and removes what is in the store: files that
// belong to subordinate ids are beyond the user whose temporary folder they lie in.
func emptyStore(env *testscript.Env) {
	hull := func(args ...string) {
		cmd := exec.Command(cmp.Or(os.Getenv("HULL_BIN"), "hull"), args...)
		cmd.Env = env.Vars
		_ = cmd.Run()
	}
	root := env.Getenv("HULL_ROOT")
	entries, _ := os.ReadDir(filepath.Join(root, "containers"))
	for _, e := range entries {
		hull("rm", "-f", e.Name())
	}
	if entries, _ := os.ReadDir(filepath.Join(root, "layers")); len(entries) > 0 {
		hull("system", "prune", "-af", "--volumes")
	}
}

// status is the script command "status N COMMAND ARG...".
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// explained is the script command "explained": the rows of hull system df sum up to what du(1) sees, within 1 %.
func explained(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: explained")
	}
	ts.Check(ts.Exec("hull", "system", "df", "--format", "{{.Size}}"))
	rows, sum := ts.ReadFile("stdout"), int64(0)
	for row := range strings.FieldsSeq(rows) {
		size, err := units.FromHumanSize(row)
		ts.Check(err)
		sum += size
	}
	out, _ := exec.Command("du", "-s", "--block-size=1", ts.Getenv("HULL_ROOT")).Output() // it complains of what it may not read
	word, _, _ := strings.Cut(string(out), "\t")
	want, err := strconv.ParseInt(word, 10, 64)
	ts.Check(err)
	if max(sum-want, want-sum) > want/100 {
		ts.Check(ts.Exec("hull", "system", "df", "-v"))
		ts.Fatalf("df explains %d bytes, du sees %d\n%s", sum, want, rows)
	}
}

// ownPort is a port of 127.0.0.1 that nobody has now, and that no other script gets until it is given back, in whichever process
// that runs. It lies below those that the kernel gives to who asks for none (ip_local_port_range begins at 32768), so that no
// such listener or connection takes it meanwhile. What is held is a name, that of an abstract socket: the script listens itself.
func ownPort() (port string, giveBack func(), err error) {
	const first, count = 20000, 10000
	for start, n := rand.IntN(count), 0; n < count; n++ {
		port := strconv.Itoa(first + (start+n)%count)
		held, err := net.Listen("unix", "@test-port-"+port)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			held.Close()
			continue
		}
		l.Close()
		return port, func() { held.Close() }, nil
	}
	return "", nil, fmt.Errorf("no port from %d on is free, of %d", first, count)
}

// TestOwnPort: no two are the same while they are held, and none is one that the kernel gives.
func TestOwnPort(t *testing.T) {
	given := map[string]bool{}
	for range 200 {
		port, giveBack, err := ownPort()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(giveBack)
		if n, _ := strconv.Atoi(port); given[port] || n < 20000 || n >= 30000 {
			t.Fatalf("%s is given twice, or out of place", port)
		}
		given[port] = true
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}

// listening is the script command "listening PORT".
func listening(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listening port")
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+args[0])
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v", err)
		}
	}
}

// busybox opens the image.
func busybox(shared string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(filepath.Join(shared, "busybox"))
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// linkImage writes busybox to dir with one layer more, of symbolic links where the image may have had a folder.
func linkImage(shared, dir string, links []string) error {
	img, err := busybox(shared)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, link := range links {
		name, target, _ := strings.Cut(link, "=")
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		return err
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return err
	}
	return writeLayout(dir, img)
}

func writeLayout(dir string, img v1.Image) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return to.AppendImage(img)
}

// volumeImage writes busybox with volumes to dir.
func volumeImage(shared, dir string, volumes []string) error {
	img, err := busybox(shared)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.Config.Volumes = map[string]struct{}{}
	for _, v := range volumes {
		config.Config.Volumes[v] = struct{}{}
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return err
	}
	return writeLayout(dir, img)
}

func condition(name, shared string) (bool, error) {
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "userns":
		return os.Geteuid() == 0 || exec.Command("unshare", "--user", "true").Run() == nil, nil
	case "v2":
		return exists("/sys/fs/cgroup/cgroup.controllers"), nil
	case "v1":
		return !exists("/sys/fs/cgroup/cgroup.controllers"), nil
	case "landlock4": // with rules for TCP, Linux 6.7
		return ns.LandlockVersion() >= 4, nil
	case "apparmor": // with the profile that vm-init.sh loads
		loaded, _ := filepath.Glob("/sys/kernel/security/apparmor/policy/profiles/hull-test.*")
		return ns.AppArmorEnabled() && len(loaded) > 0, nil
	case "mapped": // mounts with mapped ids, for root, where scripts are performed
		return canMap(), nil
	case "bridge":
		return bridges(), nil
	case "cable": // what a network that is a process plugs into a container
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err == nil {
			f.Close()
			return true, nil
		}
		const veth = "PATH=$PATH:/sbin:/usr/sbin ip link add cable0 type veth peer name cable1"
		return exec.Command("unshare", "--user", "--map-root-user", "--net", "sh", "-c", veth).Run() == nil, nil
	case "gnu":
		return exec.Command("env", "--default-signal=INT", "tar", "--full-time", "--version").Run() == nil, nil
	case "ci":
		return os.Getenv("CI") != "", nil
	case "slow":
		return os.Getenv("HULL_TEST_SLOW") != "", nil
	case "shared":
		return exists(filepath.Join(shared, "busybox/index.json")), nil
	}
	return false, errors.New("unknown condition")
}

// canMap asks package ns.
func canMap() bool {
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1 << 20, Size: 1}}
	userns, err := ns.UserNamespace(maps, maps)
	if err != nil {
		return false
	}
	defer userns.Close()
	return ns.Mappable(userns, os.TempDir()) == nil
}

// bridges tells whether the caller may make networks, and the kernel has what they are made of. It tries, in a network
// namespace that goes with its thread.
func bridges() bool {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	done := make(chan bool)
	go func() {
		runtime.LockOSThread() // for good
		s := network.Networks{Dir: dir}
		e := &network.Endpoint{Container: "probe", Network: network.Bridge}
		done <- unix.Unshare(unix.CLONE_NEWNET) == nil && s.Reserve(context.Background(), e) == nil &&
			s.Attach(context.Background(), "/proc/thread-self/ns/net", e) == nil
	}()
	return <-done
}
