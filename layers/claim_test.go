package layers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// counting is an image that counts from which byte on its layers are fetched, by digest. A layer breaks off where broken
// says, if it says anything.
type counting struct {
	v1.Image
	mu      *sync.Mutex
	from    map[v1.Hash][]int64
	broken  int64
	noRange bool
}

func (c counting) LayerByDigest(d v1.Hash) (v1.Layer, error) {
	l, err := c.Image.LayerByDigest(d)
	if c.noRange {
		return struct{ v1.Layer }{countedLayer{l, c, d}}, err
	}
	return countedLayer{l, c, d}, err
}

type countedLayer struct {
	v1.Layer
	c counting
	d v1.Hash
}

func (l countedLayer) Compressed() (io.ReadCloser, error) { return l.CompressedFrom(0) }

func (l countedLayer) CompressedFrom(off int64) (io.ReadCloser, error) {
	l.c.mu.Lock()
	l.c.from[l.d] = append(l.c.from[l.d], off)
	l.c.mu.Unlock()
	r, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if l.c.broken > 0 {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[off:l.c.broken]), failing{})), nil
	}
	time.Sleep(20 * time.Millisecond) // long enough that the others come by
	return io.NopCloser(bytes.NewReader(b[off:])), nil
}

var errGone = errors.New("the line is dead")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errGone }

// noise does not compress.
func noise(n int, seed uint64) string {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// TestAddFetchesOnce: whoever pulls at once, each layer is fetched once, and nobody waits for ever.
func TestAddFetchesOnce(t *testing.T) {
	s := newStore(t)
	var shared []*testLayer
	for i := range 5 {
		shared = append(shared, newTestLayer(t, "gzip", makeTar(t, file(fmt.Sprint("f", i), noise(200_000+i, uint64(i))))))
	}
	c := counting{mu: new(sync.Mutex), from: map[v1.Hash][]int64{}}
	var running sync.WaitGroup
	for i := range 8 {
		own := newTestLayer(t, "gzip", makeTar(t, file("own", fmt.Sprint(i%4))))
		list := []*testLayer{shared[i%5], shared[(i+1)%5], own, shared[(i+3)%5]}
		img := c
		img.Image = newImage(t, list...)
		running.Go(func() {
			mine := *s
			if _, err := mine.Add(t.Context(), fmt.Sprintf("%simg%d:latest", full, i), img, AddOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if len(c.from) != 9 {
		t.Errorf("%d layers were fetched, want 9", len(c.from))
	}
	for d, from := range c.from {
		if len(from) != 1 {
			t.Errorf("layer %s was fetched %d times", d, len(from))
		}
	}
	checkClean(t, s)
}

// TestAddResumes: what came before the line broke is not fetched again, unless it turns out to be wrong.
func TestAddResumes(t *testing.T) {
	for _, row := range []struct {
		name    string
		spoil   func(path string) error
		noRange bool
		want    string
	}{
		{"range", nil, false, "[0 300000]"},
		{"no range", nil, true, "[0 0]"},
		{"spoilt", func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{7}, 300_000), 0o644) }, false, "[0 300000 0]"},
		{"too long", func(path string) error { return os.Truncate(path, 1<<20) }, false, "[0 0]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newStore(t)
			l := newTestLayer(t, "gzip", makeTar(t, file("a", noise(500_000, 1))))
			img := counting{newImage(t, l), new(sync.Mutex), map[v1.Hash][]int64{}, 300_000, row.noRange}
			if _, err := s.Add(t.Context(), full+"a:latest", img, AddOptions{}); !errors.Is(err, errGone) {
				t.Fatal(err)
			}
			d, err := l.Digest()
			if err != nil {
				t.Fatal(err)
			}
			part := s.path("tmp", claimName+d.Hex)
			if st, err := os.Stat(part); err != nil || st.Size() != 300_000 {
				t.Fatalf("%v, %v", st, err)
			}
			if row.spoil != nil {
				if err := row.spoil(part); err != nil {
					t.Fatal(err)
				}
			}
			img.broken = 0
			add(t, s, full+"a:latest", img)
			if got := fmt.Sprint(img.from[d]); got != row.want {
				t.Errorf("fetched from %s, want %s", got, row.want)
			}
			checkClean(t, s)
			if flaws, err := s.Check(CheckOptions{Deep: true, Used: func(string) bool { return true }}); err != nil || len(flaws) > 0 {
				t.Error(flaws, err)
			}
		})
	}
}

// TestAddWaits: a pull that waits for another's layer ends when it is told to, and goes on when the other one dies.
func TestAddWaits(t *testing.T) {
	s := newStore(t)
	l := newTestLayer(t, "gzip", makeTar(t, file("a", "x")))
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	d, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.claim(v1.Descriptor{Digest: d})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Add(ctx, full+"a:latest", newImage(t, l), AddOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	waiting := make(chan struct{})
	told := sync.OnceFunc(func() { close(waiting) })
	ended := make(chan error, 1)
	go func() {
		_, err := s.Add(t.Context(), full+"a:latest", newImage(t, l), AddOptions{Progress: func(e Event) {
			if strings.HasPrefix(e.Phase, "download") {
				told()
			}
		}})
		ended <- err
	}()
	<-waiting
	other.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	checkClean(t, s)
}
