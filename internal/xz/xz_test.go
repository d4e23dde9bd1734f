package xz

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

const dictionary = 64 << 20

func files(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.xz")
	if err != nil || len(names) < 50 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		if all[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestFiles reads the files of XZ Utils' own tests, which are in the public domain (and moved-4KiB, whose dictionary is moved).
// Their checks tell whether what comes out is right.
func TestFiles(t *testing.T) {
	filters := []string{"delta", "sparc", "x86"}
	for name, raw := range files(t) {
		kind, _, _ := strings.Cut(name, "-")
		for _, f := range filters {
			if kind == "good" && strings.Contains(name, f) {
				kind = "unsupported"
			}
		}
		for _, r := range []io.Reader{bytes.NewReader(raw), iotest.OneByteReader(bytes.NewReader(raw))} {
			got, err := io.ReadAll(NewReader(r, dictionary))
			right := err == nil && (len(got) == 0) == (strings.HasPrefix(name, "good-0") || name == "good-1-lzma2-5.xz")
			switch kind {
			case "bad":
				right = errors.Is(err, ErrCorrupt) || err == io.ErrUnexpectedEOF
			case "unsupported":
				right = errors.Is(err, ErrUnsupported)
			}
			if !right {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	}
}

// TestCut: no beginning of a file is taken for a whole one, and after an error nothing more is given.
func TestCut(t *testing.T) {
	raw := files(t)["good-1-lzma2-4.xz"]
	for n := range len(raw) {
		z := NewReader(bytes.NewReader(raw[:n]), dictionary)
		if _, err := io.ReadAll(z); err != io.ErrUnexpectedEOF {
			t.Fatalf("%d of %d bytes: %v", n, len(raw), err)
		}
		if m, err := z.Read(make([]byte, 10)); m != 0 || err == nil {
			t.Fatalf("%d of %d bytes: then %d more", n, len(raw), m)
		}
	}
}

// TestDictionary: a file that wants more memory than it may have is refused before it gets any.
func TestDictionary(t *testing.T) {
	raw := files(t)["good-1-moved-4KiB.xz"]
	z := NewReader(bytes.NewReader(raw), 4<<10-1)
	if _, err := io.ReadAll(z); !errors.Is(err, ErrUnsupported) || len(z.d.buf) > 0 {
		t.Errorf("%v, %d bytes", err, len(z.d.buf))
	}
}

// TestTool compares with xz(1), whatever it is told.
func TestTool(t *testing.T) {
	if exec.Command("xz", "--robot", "--version").Run() != nil {
		t.Skip("needs xz (BusyBox has one that only reads)")
	}
	all := sample(3 << 20)
	for _, args := range []string{
		"-6", "-9e", "--check=none", "--check=crc32", "--check=sha256", "-T2 --block-size=500KiB",
		"--lzma2=preset=1,lc=0,lp=4,pb=0", "--lzma2=preset=0,dict=4KiB,lc=2,lp=2,pb=4",
	} {
		want := all[:1<<20]
		if strings.Contains(args, "dict") { // which is moved when the buffer is full
			want = all
		}
		cmd := exec.Command("xz", append(strings.Fields(args), "-c")...)
		cmd.Stdin = bytes.NewReader(want)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatalf("xz %s: %v", args, err)
		}
		twice := append(append(packed, 0, 0, 0, 0), packed...)
		got, err := io.ReadAll(NewReader(bytes.NewReader(twice), dictionary))
		if err != nil || !bytes.Equal(got, append(bytes.Clone(want), want...)) {
			t.Errorf("xz %s: %d bytes, want %d twice: %v", args, len(got), len(want), err)
		}
	}
}

// sample is n bytes that have literals, matches near and far, repeats, and parts that cannot be compressed.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for len(b) < n {
		size := 1 + r.IntN(400)
		switch from := r.IntN(len(b) + 1); r.IntN(4) {
		case 0:
			for range size * r.IntN(20) {
				b = append(b, byte(r.Uint32()))
			}
		case 1:
			b = append(b, bytes.Repeat([]byte{byte(size)}, size)...)
		default:
			b = append(b, b[from:min(from+size, len(b))]...)
			b = append(b, byte(size), 'x')
		}
	}
	return b[:n]
}

// FuzzReader: whatever comes, it ends, in no panic.
func FuzzReader(f *testing.F) {
	for _, raw := range files(f) {
		if len(raw) < 1<<10 {
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = io.Copy(io.Discard, io.LimitReader(NewReader(bytes.NewReader(raw), 1<<20), 8<<20))
	})
}
