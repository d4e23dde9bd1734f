package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestUnlink removes a bridge with its cables by their group. Nothing is to be found when the call returns, and no process is
// left soon after it.
func TestUnlink(t *testing.T) {
	w := newWorld(t)
	w.in(w.host, func() {
		for _, name := range []string{"one", "two"} {
			l := netlink.NewLinkAttrs()
			l.Name, l.Group = name, 1<<30+7
			must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: l, PeerName: name + "-peer"}))
		}
		stays := netlink.NewLinkAttrs()
		stays.Name = "stays"
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: stays}))
		must(t, removeLink("two", 1<<30+7))
		for _, name := range []string{"one", "two", "one-peer", "two-peer"} {
			if linkExists(name) {
				t.Errorf("%s is there", name)
			}
		}
		if !linkExists("stays") {
			t.Error("removed what is not of the group")
		}
		must(t, removeLink("stays", 0))
		must(t, removeLink("stays", 0)) // none
		if linkExists("stays") {
			t.Error("stays is there")
		}
		if ns, err := netns.Get(); err != nil || !ns.Equal(w.host) {
			t.Error("the thread is elsewhere", err)
		}
	})
	for end := time.Now().Add(10 * time.Second); len(children(t)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("children are left: ", children(t))
		}
	}
}

// children are this process's, proc_pid_task_tid_children(5).
func children(t *testing.T) (pids []string) {
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	must(t, err)
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}
