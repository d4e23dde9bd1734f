package cgroups

import (
	"fmt"
	"testing"
)

func TestHierarchies(t *testing.T) {
	for _, c := range []struct{ name, mounts, groups, want string }{
		{"each on its own",
			"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n" +
				"32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n" +
				"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory\n" +
				"40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n" +
				"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
			"9:name=systemd:/\n4:memory:/api/a0\n1:cpu:/\n0::/x\n",
			"[{[cpu] /sys/fs/cgroup/cpu /sys/fs/cgroup/cpu} {[memory] /sys/fs/cgroup/memory /sys/fs/cgroup/memory/api/a0}]"},
		{"mounted together, as systemd does",
			"33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct\n",
			"4:cpu,cpuacct:/user.slice/session-1.scope\n",
			"[{[cpu cpuacct] /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct/user.slice/session-1.scope}]"},
		{"in a container that sees its own part",
			"707 706 0:29 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:15 - cgroup cgroup rw,memory\n",
			"4:memory:/docker/abc/below\n", "[{[memory] /sys/fs/cgroup/memory /sys/fs/cgroup/memory/below}]"},
		{"mounted at a strange place, twice",
			"1 1 0:29 / /my\\040groups\\134x rw - cgroup none rw,xattr,freezer\n2 1 0:29 / /again rw - cgroup none rw,freezer\n",
			"4:freezer:/a\n", "[{[freezer] /my groups\\x /my groups\\x/a}]"},
		{"outside of what the mount shows",
			"707 706 0:29 /docker/abc /m ro - cgroup cgroup rw,memory\n", "4:memory:/docker/abcd\n", "[{[memory] /m /m}]"},
		{"nothing", "1 1 0:2 / / rw - ext4 /dev/vda rw\n", "0::/\n", "[]"},
	} {
		if got := fmt.Sprint(parseHierarchies([]byte(c.mounts), []byte(c.groups))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestKeyed(t *testing.T) {
	text := []byte("oom 1\noom_kill 2\nlast 3")
	for key, want := range map[string]uint64{"oom": 1, "oom_kill": 2, "last": 3, "kill": 0} {
		if got := keyed(text, key); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

func TestStatFiles(t *testing.T) {
	d := ioStat([]byte("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=9 dios=9\n8:16 \n253:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"))
	if want := (DiskStats{11, 22, 4, 6}); d != want {
		t.Errorf("io.stat: %+v, want %+v", d, want)
	}
	r, w := serviced([]byte("8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:16 Read 1\nTotal 30\n"))
	if r != 11 || w != 20 {
		t.Errorf("blkio: %d, %d", r, w)
	}
	c := cpuStatV2([]byte("usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 6\nthrottled_usec 1\n"))
	if want := (CPUStats{5000, 3000, 2000, 7, 6, 1000}); c != want {
		t.Errorf("cpu.stat: %+v, want %+v", c, want)
	}
}
