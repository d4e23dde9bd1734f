package gunzip

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"testing"
	"testing/iotest"
)

// samples are contents that lead through all parts of the decoder: stored, fixed and dynamic blocks, short and long
// matches, long codes, more than a window.
func samples() map[string][]byte {
	r := rand.New(rand.NewSource(1))
	random := make([]byte, 300<<10)
	r.Read(random)
	skewed := make([]byte, 400<<10) // letters so unequal that the longest codes have 15 bits
	for i := range skewed {
		skewed[i] = byte(min(255, int(r.ExpFloat64()*9)))
	}
	var words bytes.Buffer
	for words.Len() < 600<<10 {
		fmt.Fprintf(&words, "%s %d\n", []string{"alpha", "beta", "gamma", "delta"}[r.Intn(4)], r.Intn(1<<r.Intn(20)))
	}
	var runs bytes.Buffer
	for runs.Len() < 200<<10 {
		runs.Write(bytes.Repeat(random[:1+r.Intn(9)], 1+r.Intn(500)))
	}
	return map[string][]byte{
		"empty": nil, "one": {7}, "short": []byte("hello hello hello hello"), "random": random, "skewed": skewed,
		"words": words.Bytes(), "runs": runs.Bytes(), "zeros": make([]byte, 1<<20),
	}
}

// pack compresses b.
func pack(t testing.TB, b []byte, level int) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Name, w.Comment, w.Extra = "name", "a comment", []byte{1, 2, 3}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRoundTrip(t *testing.T) {
	for name, want := range samples() {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 6, 9} {
			packed := pack(t, want, level)
			readers := map[string]io.Reader{
				"whole":   bytes.NewReader(packed),
				"by byte": iotest.OneByteReader(bytes.NewReader(packed)),
				"eof":     iotest.DataErrReader(bytes.NewReader(packed)),
			}
			for how, r := range readers {
				got, err := io.ReadAll(NewReader(r))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, level %d, %s: %d bytes for %d, %v", name, level, how, len(got), len(want), err)
				}
			}
		}
	}
}

func TestMembersAndPadding(t *testing.T) {
	one, two := pack(t, []byte("one"), 6), pack(t, bytes.Repeat([]byte("two"), 30000), 6)
	packed := append(append(bytes.Clone(one), two...), make([]byte, 700)...)
	got, err := io.ReadAll(NewReader(bytes.NewReader(packed)))
	if want := "one" + string(bytes.Repeat([]byte("two"), 30000)); err != nil || string(got) != want {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := io.ReadAll(NewReader(bytes.NewReader(append(bytes.Clone(one), "junk"...)))); !errors.Is(err, ErrHeader) {
		t.Errorf("junk after the last member: %v", err)
	}
}

func TestErrors(t *testing.T) {
	packed := pack(t, bytes.Repeat([]byte("some words "), 1000), 6)
	for n := range len(packed) {
		if _, err := io.ReadAll(NewReader(bytes.NewReader(packed[:n]))); err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	flipped := bytes.Clone(packed)
	flipped[len(flipped)-7] ^= 1
	if _, err := io.ReadAll(NewReader(bytes.NewReader(flipped))); err != ErrChecksum {
		t.Errorf("wrong checksum: %v", err)
	}
	if _, err := io.ReadAll(NewReader(bytes.NewReader([]byte("not gzip at all")))); err != ErrHeader {
		t.Errorf("no gzip: %v", err)
	}
	broken := errors.New("broken")
	r := io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(broken))
	if _, err := io.ReadAll(NewReader(r)); err != broken {
		t.Errorf("the reader's own error: %v", err)
	}
	// A match that reaches back before the beginning: fixed codes, length 3, distance 1.
	far := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 0x03 | 0x40<<3&0xff, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	far[10], far[11] = 0b0000_0011, 0b0000_0010
	if _, err := io.ReadAll(NewReader(bytes.NewReader(far))); err == nil {
		t.Error("match before the beginning: no error")
	}
}

// FuzzInflate holds the decoder to compress/flate: what that accepts, this gives the same bytes for, and what it
// refuses, this refuses. (A gzip's checksum would keep nearly all of a fuzzer's streams from being compared.)
func FuzzInflate(f *testing.F) {
	for _, b := range samples() {
		b = b[:min(len(b), 3000)]
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 6} {
			var out bytes.Buffer
			w, _ := flate.NewWriter(&out, level)
			w.Write(b)
			w.Close()
			f.Add(out.Bytes())
		}
	}
	const most = 2 << 20
	f.Fuzz(func(t *testing.T, packed []byte) {
		got, err := inflateAll(bytes.NewReader(packed), most)
		slow, slowErr := inflateAll(iotest.OneByteReader(bytes.NewReader(packed)), most)
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), most))
		if (err == nil) != (wantErr == nil) || (err == nil) != (slowErr == nil) {
			t.Fatalf("error %v, by bytes %v, but compress/flate's is %v", err, slowErr, wantErr)
		}
		if err == nil && (!bytes.Equal(got, want) || !bytes.Equal(slow, want)) {
			t.Fatal("other bytes than compress/flate's")
		}
	})
}

// inflateAll decodes a bare deflate stream.
func inflateAll(r io.Reader, most int) ([]byte, error) {
	z := inflater{r: r}
	z.restart()
	var all []byte
	b := make([]byte, 10000)
	for {
		n, err := z.read(b[:min(len(b), most-len(all))])
		all = append(all, b[:n]...)
		if err == io.EOF || len(all) == most {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// BenchmarkReader and BenchmarkStandard inflate the same words.
func BenchmarkReader(b *testing.B) {
	packed := pack(b, samples()["words"], 6)
	b.SetBytes(600 << 10)
	for b.Loop() {
		if _, err := io.Copy(struct{ io.Writer }{io.Discard}, NewReader(bytes.NewReader(packed))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStandard(b *testing.B) {
	packed := pack(b, samples()["words"], 6)
	b.SetBytes(600 << 10)
	for b.Loop() {
		r, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(struct{ io.Writer }{io.Discard}, r); err != nil {
			b.Fatal(err)
		}
	}
}
