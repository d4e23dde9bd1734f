package usernet

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
	"unsafe"
)

// TestShrink compares what of files is in memory before and after, in a copy of this program that lies in large pages of the
// cache of files, where the file system has such: it is written at once.
func TestShrink(t *testing.T) {
	if os.Getenv(roleEnv) == "copy" {
		checkShrink(t)
		checkRest(t)
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
	touchProgram(t, 2<<20)
	all := residentFiles(t)
	shrink()
	if after := residentFiles(t); after > before*3/4 {
		t.Errorf("%d kB of files are in memory, %d before", after, before)
	}
	touchProgram(t, 2<<20)
	if after := residentFiles(t); after > all*3/4 {
		t.Errorf("%d kB of files are in memory when a byte of each 2 MiB is used again, of %d", after, all)
	}
}

// checkRest has all of the program in memory, and some traffic.
func checkRest(t *testing.T) {
	touchProgram(t, 4<<10)
	before := residentFiles(t)
	r := rest{above: before << 9}
	for wait := 0; residentFiles(t) > before/2; wait++ {
		if r.touch(); wait > 200 {
			t.Fatalf("%d kB of files are in memory, %d before", residentFiles(t), before)
		}
		time.Sleep(restTime / 10)
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

// touchProgram reads a byte of each page of that size of the program's code and constants.
func touchProgram(t *testing.T, size uint64) {
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
		for at := (begin + size - 1) &^ (size - 1); at < end; at += size {
			address := uintptr(at)
			touched += **(**byte)(unsafe.Pointer(&address))
		}
	}
}
