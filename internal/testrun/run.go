package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hullrun/hull/internal/leftovers"
)

// runner runs suites one after the other: they share the machine's cgroups, mounts and clock.
type runner struct {
	*options
	dir, staged string // this run's own folder; where the tests are
	suites      []suite
	results     results
	stopped     atomic.Bool
	undo        []func() // what is to be taken back at the end, last first
}

// who is an account that tests run as.
type who struct {
	name string // "root", or "an ordinary user"
	home string
	cred *syscall.Credential // nil: as this process
	env  []string
	// started is called with the pid of each test process, before it does anything that counts.
	started func(pid int) error
}

func newRunner(o *options, dir, staged string) (*runner, error) {
	staged, err := filepath.Abs(staged)
	if err != nil {
		return nil, err
	}
	r := &runner{options: o, dir: dir, staged: staged}
	text, err := os.ReadFile(filepath.Join(staged, "suites.json"))
	if err != nil {
		return nil, err
	}
	return r, json.Unmarshal(text, &r.suites)
}

// all runs every suite as everybody, looks for leftovers and prints the summary. It returns whether nothing failed.
func (r *runner) all() (bool, error) {
	places := []string{"/tmp", "/dev/shm", "/run", "/var/lib/hull"}
	if home, err := os.UserHomeDir(); err == nil {
		places = append(places, filepath.Join(home, ".local", "share", "hull"))
	}
	before, err := leftovers.Take(places...)
	if err != nil {
		return false, err
	}
	defer func() {
		for i := len(r.undo) - 1; i >= 0; i-- {
			r.undo[i]()
		}
	}()
	if err := r.everybody(); err != nil {
		return false, err
	}
	left, err := leftovers.Wait(before, 10*time.Second, places...)
	if err != nil {
		return false, err
	}
	r.results.add(nothingLeft(left))
	if err := leftovers.Kill(); err != nil {
		return false, err
	}
	leftovers.Reap()
	r.results.print(os.Stdout)
	if r.events != "" {
		err = r.results.save(outcomes(r.dir))
	}
	return r.results.good() && !r.stopped.Load(), err
}

// stopOn ends the tests that run when a signal arrives, and lets no other begin; then all goes on to the summary, and
// what was made is taken back.
func (r *runner) stopOn(signals ...os.Signal) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, signals...)
	go func() {
		s := <-c
		r.stopped.Store(true)
		fmt.Println("stopped:", s)
		_ = leftovers.Kill()
	}()
}

// nothingLeft is the last test.
func nothingLeft(left []string) outcome {
	last := outcome{Package: "internal/leftovers", Test: "after all tests", As: "everybody", Status: pass}
	if len(left) > 0 {
		last.Status = fail
		for _, l := range left {
			last.Output += "    left behind: " + l + "\n"
		}
	}
	return last
}

func (r *runner) everybody() error {
	if os.Getuid() != 0 {
		fmt.Println("Not root: what needs root is skipped.")
		home, err := r.home("home", os.Getuid())
		if err != nil {
			return err
		}
		r.runAs(who{name: "an ordinary user", home: home, env: os.Environ()})
		return nil
	}
	home, err := r.home("root", 0)
	if err != nil {
		return err
	}
	r.runAs(who{name: "root", home: home, env: os.Environ()})
	user, removeGroup, err := r.ordinary()
	if err != nil {
		return err
	}
	r.runAs(user)
	removeGroup()
	return nil
}

// home makes a home with nothing in it.
func (r *runner) home(name string, uid int) (string, error) {
	dir := filepath.Join(r.dir, name)
	for _, d := range []string{dir, dir + "/runtime"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return "", err
		}
		if err := os.Chown(d, uid, -1); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (r *runner) runAs(w who) {
	fmt.Printf("\n== as %s\n", w.name)
	for _, s := range r.suites {
		if r.stopped.Load() {
			return
		}
		begin := time.Now()
		if s.Binary == "" {
			r.results.add(outcome{Package: s.Package, As: w.name, Status: fail, Output: s.Output})
			fmt.Printf("FAIL  %s does not compile\n%s", s.Package, s.Output)
			continue
		}
		part, err := r.one(w, s)
		if err != nil && part.good() {
			part.add(outcome{Package: s.Package, As: w.name, Status: fail, Output: err.Error() + "\n"})
		}
		part.line(os.Stdout, s.Package, time.Since(begin))
		r.results = append(r.results, part...)
	}
}

// one runs the tests of one package. Without a result in the output (the binary crashed), the error says what happened.
func (r *runner) one(w who, s suite) (results, error) {
	binary := filepath.Join(r.staged, s.Binary)
	cmd := exec.Command(filepath.Join(r.staged, "bin", "test2json"), "-t", "-p", s.Package, binary,
		"-test.v=test2json", "-test.timeout="+r.timeout.String(), "-test.run="+r.run)
	cmd.Dir = filepath.Join(r.staged, "src", s.Dir)
	cmd.Env = append(w.env, "HOME="+w.home, "XDG_RUNTIME_DIR="+w.home+"/runtime", "TMPDIR=/tmp", "PWD="+cmd.Dir,
		"HULL_BIN="+r.staged+"/bin/hull", "HULL_TEST_IMAGES="+r.staged+"/shared/images",
		"XDG_CONFIG_HOME=", "XDG_DATA_HOME=", "HULL_ROOT=", "DOCKER_CONFIG=", "GOFLAGS=-tags="+tags)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.cred, Setpgid: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(cmd, w.started); err != nil {
		return nil, err
	}
	late := time.AfterFunc(r.timeout+10*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer late.Stop()
	part, err := readEvents(out, w.name, r.verbose)
	_, _ = io.Copy(io.Discard, out)
	return part, errors.Join(err, cmd.Wait())
}

// start starts cmd, stopped until started has been called with its pid.
func start(cmd *exec.Cmd, started func(int) error) error {
	if started == nil {
		return cmd.Start()
	}
	// The shell waits for a line: until then it is in none of the places that count.
	cmd.Args = append([]string{"sh", "-c", `read -r go <&3 && exec 3<&- && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	cmd.ExtraFiles = []*os.File{read}
	err = cmd.Start()
	read.Close()
	if err != nil {
		return err
	}
	if err := started(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		return errors.Join(err, cmd.Wait())
	}
	_, err = io.WriteString(write, "go\n")
	return err
}

func asExit(err error, exit **exec.ExitError) bool { return errors.As(err, exit) }
