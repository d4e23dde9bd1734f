package decompress

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime/metrics"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// samples are "hull\n" as the tools of these names write it.
var samples = map[string]string{
	"gzip":  "H4sIAAAAAAAAA8sozcnhAgDOZNFbBQAAAA==",
	"zstd":  "KLUv/QRYKQAAaHVsbAqvLp9O",
	"bzip2": "QlpoOTFBWSZTWVVF5WIAAADBgAAQAEQCACAAIZpoM00wLxdyRThQkFVF5WI=",
	"xz":    "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAEaHVsbAoAAAAAm37w46w2UYAAAR0FuC2Arx+2830BAAAAAARZWg==",
}

func sample(t *testing.T, kind string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(samples[kind])
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestNewReader: whatever it is, it is read, in pieces or whole, and so are two in a row. What is cut is no success.
func TestNewReader(t *testing.T) {
	read := func(r io.Reader) (string, error) {
		plain, done, err := NewReader(r, MaxWindow)
		if err != nil {
			return "", err
		}
		defer done()
		b, err := io.ReadAll(plain)
		return string(b), err
	}
	for kind := range samples {
		raw := sample(t, kind)
		if got := Kind(raw); got != kind {
			t.Errorf("%s is taken for %q", kind, got)
		}
		for _, r := range []io.Reader{bytes.NewReader(raw), iotest.OneByteReader(bytes.NewReader(raw)), iotest.DataErrReader(bytes.NewReader(raw))} {
			if got, err := read(r); got != "hull\n" || err != nil {
				t.Errorf("%s: %q, %v", kind, got, err)
			}
		}
		if got, err := read(bytes.NewReader(append(bytes.Clone(raw), raw...))); got != "hull\nhull\n" || err != nil {
			t.Errorf("%s twice: %q, %v", kind, got, err)
		}
		if got, err := read(bytes.NewReader(raw[:len(raw)-1])); err == nil {
			t.Errorf("%s cut: %q", kind, got)
		}
	}
	skippable := append([]byte("\x50\x2a\x4d\x18\x02\x00\x00\x00ab"), sample(t, "zstd")...)
	if got, err := read(bytes.NewReader(skippable)); got != "hull\n" || err != nil {
		t.Errorf("a skippable frame first: %q, %v", got, err)
	}
	for _, plain := range []string{"", "h", "BZh", "BZhull", "\x1f", "\xfd7zX", "a longer text that is nothing in particular"} {
		if got, err := read(strings.NewReader(plain)); got != plain || err != nil || Kind([]byte(plain)) != "" {
			t.Errorf("%q: %q, %v", plain, got, err)
		}
	}
}

// TestOneAtATime: a decoder with a large window waits for another to be done.
func TestOneAtATime(t *testing.T) {
	_, done, err := NewReader(bytes.NewReader(sample(t, "xz")), MaxWindow)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan func())
	go func() {
		_, done, _ := NewReader(bytes.NewReader(sample(t, "xz")), MaxWindow)
		second <- done
	}()
	select {
	case <-second:
		t.Error("two at once")
	case <-time.After(50 * time.Millisecond):
	}
	done()
	(<-second)()
}

// TestMemoryGivenBack: when a decoder with a large window is done its memory is the system's. If it were only free, the next
// window might find a small thing in its place and lie beside it.
func TestMemoryGivenBack(t *testing.T) {
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, 1<<20)
	for range 65 {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, done, err := NewReader(&packed, MaxWindow)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); n != 65<<20 || err != nil {
		t.Fatal(n, err)
	}
	done()
	free := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
	if metrics.Read(free); free[0].Value.Uint64() > 32<<20 {
		t.Errorf("%d MiB lie free", free[0].Value.Uint64()>>20)
	}
}

// TestXZ compares with xz(1), whatever it is told.
func TestXZ(t *testing.T) {
	if exec.Command("xz", "--robot", "--version").Run() != nil {
		t.Skip("needs xz (BusyBox has one that only reads)")
	}
	want := make([]byte, 1<<20)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(want); i++ {
		if want[i] = byte(r.Uint32()); i > 100 && r.IntN(8) > 0 {
			want[i] = want[i-1-r.IntN(3)]
		}
	}
	for _, args := range []string{
		"-0", "-9e", "--check=none", "--check=crc32", "--check=sha256", "-T2 --block-size=100KiB", "--x86 --lzma2", "--delta --lzma2",
		"--lzma2=preset=1,lc=0,lp=4,pb=0", "--lzma2=preset=0,dict=4KiB,lc=2,lp=2,pb=4",
	} {
		cmd := exec.Command("xz", append(strings.Fields(args), "-c")...)
		cmd.Stdin = bytes.NewReader(want)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatalf("xz %s: %v", args, err)
		}
		plain, done, err := NewReader(bytes.NewReader(packed), MaxWindow)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(plain); err != nil || !bytes.Equal(got, want) {
			t.Errorf("xz %s: %d bytes, want %d: %v", args, len(got), len(want), err)
		}
		done()
	}
}

// TestDictionary: a stream that wants more memory than it may have is refused, and xz is named as the way.
func TestDictionary(t *testing.T) {
	plain, done, err := NewReader(bytes.NewReader(sample(t, "xz")), 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if got, err := io.ReadAll(plain); !NeedsXZ(err) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzNewReader: whatever comes, it ends, in no panic.
func FuzzNewReader(f *testing.F) {
	for kind := range samples {
		raw, _ := base64.StdEncoding.DecodeString(samples[kind])
		f.Add(raw)
		f.Add(append(raw[:len(raw)/2:len(raw)/2], raw...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		plain, done, err := NewReader(bytes.NewReader(raw), 1<<20)
		if err != nil {
			return
		}
		defer done()
		_, _ = io.Copy(io.Discard, io.LimitReader(plain, 8<<20))
	})
}
