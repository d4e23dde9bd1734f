package main

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test's binary be hull when it is called by that name, so that scripts run the real main. Where
// $HULL_BIN names a hull that was built already, as in make test, scripts run that one.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hull": main})
}

// TestScripts performs the sessions in testdata/scripts. Each has a store of its own below its working directory.
//
// Beside testscript's own words scripts know "status N COMMAND...", which wants exactly that exit status, and the
// conditions root, userns (somebody who is not root may make user namespaces), v1 and v2 (of cgroups, v2 being the
// unified tree), shared (real images, whose folder is $SHARED) and slow (somebody has the time: $HULL_TEST_SLOW is set).
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
			return os.MkdirAll(home, 0o700)
		},
		Condition: func(name string) (bool, error) { return condition(name, shared) },
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"status": status},
	})
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
	case "slow":
		return os.Getenv("HULL_TEST_SLOW") != "", nil
	case "shared":
		return exists(filepath.Join(shared, "busybox/index.json")), nil
	}
	return false, errors.New("unknown condition")
}
