// Command testrun runs the project's tests as root and as an ordinary user, and proves that they left nothing behind.
// `make test` is this program; the guest of `make vm-test` runs it too, on tests that were built before.
//
//	testrun [PACKAGE...]              build and run the tests (default ./... and ./testdata/hostile)
//	testrun -stage DIR [PACKAGE...]   only build, into DIR, what -staged runs on another machine
//	testrun -staged DIR               run what -stage has built
//	testrun -merge [-allow FILE] FILE...
//	                                  add up what -events wrote; red if a test ran nowhere and FILE does not allow it
//
// Tests run in a copy of the source tree that everybody may read, because the checkout itself may belong to root
// alone. Where this is root with the rights of one, that happens in a private mount namespace with a /tmp and /dev/shm
// of its own: so whatever is found there afterwards was left by a test and nobody else.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// options are the flags of this command.
type options struct {
	stage, staged string
	events        string // file for the outcomes, for -merge
	merge         bool
	allow         string // list of skips that are in order
	uid           int    // ordinary user to use, 0: make one
	run           string // -test.run of every test binary
	timeout       time.Duration
	verbose       bool
}

const insideEnv = "HULL_TESTRUN_INSIDE" // set in the private mount namespace: the folder for this run

func main() {
	var o options
	flag.StringVar(&o.stage, "stage", "", "only build tests, into this folder")
	flag.StringVar(&o.staged, "staged", "", "run the tests that -stage built in this folder")
	flag.StringVar(&o.events, "events", "", "write each test's outcome to this file")
	flag.BoolVar(&o.merge, "merge", false, "add up files written by -events")
	flag.StringVar(&o.allow, "allow", "", "file with the skips that -merge lets pass")
	flag.IntVar(&o.uid, "uid", 0, "ordinary user to run tests as; default: one that is made for the purpose")
	flag.StringVar(&o.run, "run", "", "run only tests that match this")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "for the tests of one package")
	flag.BoolVar(&o.verbose, "v", false, "show the output of tests that pass")
	flag.Parse()
	ok, err := o.do(flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func (o *options) do(args []string) (bool, error) {
	if o.merge {
		return merge(args, o.allow)
	}
	if len(args) == 0 {
		args = []string{"./...", "./testdata/hostile"} // ./... leaves testdata out
	}
	if o.stage != "" {
		_, err := build(o.stage, args)
		return err == nil, err
	}
	if dir := os.Getenv(insideEnv); dir != "" {
		return o.inside(dir)
	}
	dir, err := os.MkdirTemp("/var/tmp", "hull-test-")
	if err != nil {
		return false, err
	}
	defer removeAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for the ordinary user
		return false, err
	}
	// Before the private /tmp hides what may lie in the real one: the checkout, the file for the outcomes.
	if o.staged == "" {
		if _, err := build(filepath.Join(dir, "stage"), args); err != nil {
			return false, err
		}
	}
	ok, err := o.enter(dir)
	if o.events != "" && err == nil {
		err = copyFile(o.events, outcomes(dir), 0o644)
	}
	return ok, err
}

// outcomes is where the tests' outcomes are kept until the end.
func outcomes(dir string) string { return filepath.Join(dir, "events") }

// enter runs this command again in a mount namespace of its own, or here if that may not be made.
func (o *options) enter(dir string) (bool, error) {
	exe, err := os.Executable()
	if err != nil {
		return false, err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	err = cmd.Start()
	if err != nil && os.Getuid() == 0 {
		fmt.Println("No private mount namespace for the tests, so what others leave in /tmp meanwhile counts:", err)
		return o.inside(dir)
	}
	if err != nil {
		return false, err
	}
	// The inner process gets a terminal's signals too, and takes care of all but the folder, which is left to us.
	signal.Ignore(os.Interrupt)
	pass := make(chan os.Signal, 1)
	signal.Notify(pass, syscall.SIGTERM)
	go func() { _ = cmd.Process.Signal(<-pass) }()
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && asExit(err, &exit) {
		return false, nil // it has said why
	}
	return err == nil, err
}

// inside does the work, below dir.
func (o *options) inside(dir string) (bool, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return false, os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", err)
	}
	private := os.Getuid() == 0 && os.Getenv(insideEnv) != ""
	if private {
		if err := ownFolders(dir); err != nil {
			return false, err
		}
	}
	staged := o.staged
	if staged == "" {
		staged = filepath.Join(dir, "stage")
	}
	r, err := newRunner(o, dir, staged)
	if err != nil {
		return false, err
	}
	r.stopOn(os.Interrupt, syscall.SIGTERM)
	return r.all()
}

// ownFolders gives this mount namespace a /tmp below dir and a /dev/shm of its own.
func ownFolders(dir string) error {
	tmp := dir + "/tmp"
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(tmp, os.ModeSticky|0o777); err != nil {
		return err
	}
	if err := unix.Mount(tmp, "/tmp", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s on /tmp: %w", tmp, err)
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("mount tmpfs on /dev/shm: %w", err)
	}
	return nil
}
