package run

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSpareHelper: a network's process that was started for a container which comes to nothing ends before Run returns.
func TestSpareHelper(t *testing.T) {
	config := verbConfig(t, "streams")
	config.Network.Mode, config.Network.Allow = modeAllow, "example.test"
	config.Files.Devices = []Device{{Source: "/dev/there-is-none", Target: "/dev/x"}}
	h := testHost(t)
	_, err := create(t, h, config).Run(context.Background(), IO{})
	if err == nil || !strings.Contains(err.Error(), "/dev/there-is-none") {
		t.Error(err)
	}
	if left := networkProcesses(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// networkProcesses are the children of this process that are a network.
func networkProcesses(t *testing.T) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(files) == 0 {
		t.Skip("the kernel does not tell a process's children")
	}
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, pid := range strings.Fields(string(text)) {
			line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			if strings.HasPrefix(string(line), "hull-network") {
				list = append(list, pid)
			}
		}
	}
	return list
}
