package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const spareUID = 64321 // where no account can be made: a number that no distribution gives away

// ordinary makes the ordinary user: an account with subordinate ids where useradd does so, or else a bare number. The
// function that it returns removes the user's cgroup; the account goes when all is over.
func (r *runner) ordinary() (who, func(), error) {
	uid, err := r.account()
	if err != nil {
		return who{}, nil, err
	}
	home, err := r.home("home", uid)
	if err != nil {
		return who{}, nil, err
	}
	w := who{name: "an ordinary user", home: home, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	w.env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "CI=" + os.Getenv("CI"), "HULL_TEST_SLOW=" + os.Getenv("HULL_TEST_SLOW"), "USER=" + r.name()}
	removeGroup, join, err := delegate(uid)
	if err != nil {
		fmt.Println("No cgroup for the ordinary user:", err)
	}
	w.started = join
	return w, removeGroup, nil
}

func (r *runner) name() string { return fmt.Sprintf("hulltest%d", os.Getpid()) }

func (r *runner) account() (int, error) {
	if r.uid != 0 {
		return r.uid, nil
	}
	name := r.name()
	out, err := exec.Command("useradd", "--no-create-home", "--home-dir", filepath.Join(r.dir, "home"), "--user-group",
		"--shell", "/bin/sh", name).CombinedOutput()
	if err != nil {
		fmt.Printf("No account for the ordinary user, so it is the bare number %d, without subordinate ids: %v %s\n",
			spareUID, err, bytes.TrimSpace(out))
		return spareUID, nil
	}
	r.undo = append(r.undo, func() {
		if out, err := exec.Command("userdel", name).CombinedOutput(); err != nil {
			fmt.Printf("userdel %s: %v %s\n", name, err, out)
		}
	})
	out, err = exec.Command("id", "-u", name).Output()
	if err != nil {
		return 0, fmt.Errorf("id -u %s: %w", name, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// delegate makes a cgroup v2 subtree that belongs to uid, as systemd's user manager does for those who log in, and
// returns how to remove it and how to put a process into a group of it. On cgroup v1 there is no such thing: both do
// nothing.
func delegate(uid int) (remove func(), join func(pid int) error, err error) {
	const top = "/sys/fs/cgroup"
	nothing := func() {}
	if _, err := os.Stat(top + "/cgroup.controllers"); err != nil {
		return nothing, nil, nil
	}
	var made []string
	remove = func() {
		for i := len(made) - 1; i >= 0; i-- {
			_ = os.Remove(made[i])
		}
	}
	dir := top
	for _, part := range []string{"user.slice", fmt.Sprintf("user-%d.slice", uid), fmt.Sprintf("user@%d.service", uid),
		"app.slice", "hulltest.scope"} {
		if err := handDown(dir); err != nil {
			remove()
			return nothing, nil, err
		}
		dir = filepath.Join(dir, part)
		if os.Mkdir(dir, 0o755) == nil {
			made = append(made, dir)
		}
		if len(made) == 0 || !strings.Contains(dir, "user@") {
			continue
		}
		for _, f := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
			if err := os.Chown(filepath.Join(dir, f), uid, uid); err != nil {
				remove()
				return nothing, nil, err
			}
		}
	}
	return remove, func(pid int) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	}, nil
}

// handDown lets the groups below dir use all controllers that dir has.
func handDown(dir string) error {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var all []string
	for _, c := range strings.Fields(string(controllers)) {
		all = append(all, "+"+c)
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(all, " ")), 0)
}
