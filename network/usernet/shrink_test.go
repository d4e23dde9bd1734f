package usernet

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"unsafe"
)

// TestShrink compares what of files is in memory before and after, in a copy of this program that lies in large pages of the
// cache of files, where the file system has such: it is written at once.
func TestShrink(t *testing.T) {
	if os.Getenv(roleEnv) == "copy" {
		checkShrink(t)
		return
	}
	program, err := os.ReadFile("/proc/self/exe")
	copied := filepath.Join(t.TempDir(), "copy")
	if err == nil {
		err = os.WriteFile(copied, program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.run=^TestShrink$")
	cmd.Env = append(os.Environ(), roleEnv+"=copy")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func checkShrink(t *testing.T) {
	before := residentFiles(t)
	touchProgram(t)
	all := residentFiles(t)
	shrink()
	if after := residentFiles(t); after > before*3/4 {
		t.Errorf("%d kB of files are in memory, %d before", after, before)
	}
	touchProgram(t)
	if after := residentFiles(t); after > all*3/4 {
		t.Errorf("%d kB of files are in memory when a byte of each 2 MiB is used again, of %d", after, all)
	}
}

// residentFiles is how much of files is in memory, in kB.
func residentFiles(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatal("/proc/self/status has no RssFile (Linux 4.5)")
	}
	kb, _ := strconv.Atoi(string(m[1]))
	return kb
}

var touched byte

// touchProgram reads a byte of each large page of the program's code and constants.
func touchProgram(t *testing.T) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	exe, _ := os.Readlink("/proc/self/exe")
	for line := range bytes.Lines(maps) {
		m := regexp.MustCompile(`^(\w+)-(\w+) r-\Sp .* (\S+)\n`).FindSubmatch(line)
		if m == nil || string(m[3]) != exe {
			continue
		}
		begin, _ := strconv.ParseUint(string(m[1]), 16, 64)
		end, _ := strconv.ParseUint(string(m[2]), 16, 64)
		for at := (begin + 2<<20 - 1) &^ (2<<20 - 1); at < end; at += 2 << 20 {
			address := uintptr(at)
			touched += **(**byte)(unsafe.Pointer(&address))
		}
	}
}
