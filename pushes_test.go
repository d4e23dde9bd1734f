package main

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/hullrun/hull/registry"
)

// brittle is a line to a server that breaks: whenever so many bytes were sent over it in all, or over each connection.
type brittle struct {
	mu     sync.Mutex
	sent   int64
	breaks []int64 // of sent, rising
	each   int64   // of a connection, 0 for never
	broke  int
}

// line listens, and passes on to a server.
func (b *brittle) line(t *testing.T, server string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(client.(*net.TCPConn), server)
		}
	}()
	return l.Addr().String()
}

func (b *brittle) pass(client *net.TCPConn, server string) {
	defer client.Close()
	to, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer to.Close()
	go func() { _, _ = io.Copy(client, to) }()
	buf, own := make([]byte, 16<<10), int64(0)
	for {
		n, err := client.Read(buf)
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
		if own += int64(n); b.breaksAt(n, own) {
			_ = client.SetLinger(0) // a reset, not an end
			return
		}
	}
}

func (b *brittle) breaksAt(n int, own int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent += int64(n)
	if len(b.breaks) > 0 && b.sent >= b.breaks[0] {
		b.breaks = b.breaks[1:]
		b.broke++
		return true
	}
	if b.each > 0 && own >= b.each {
		b.broke++
		return true
	}
	return false
}

// mend makes it hold, and counts anew.
func (b *brittle) mend() (sent int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sent, b.sent, b.each, b.breaks = b.sent, 0, 0, nil
	return sent
}

// TestPushBreaks pushes over lines that break in the middle of a layer, to both real registries: a layer begins anew, those that
// arrived do not, and what comes of it is the image. Where it breaks for good, the next push sends what is missing only.
func TestPushBreaks(t *testing.T) {
	servers := map[string]func(t *testing.T) string{
		"hull":            func(t *testing.T) string { return serveRegistry(t, filepath.Join(t.TempDir(), "registry")) },
		"docker-registry": func(t *testing.T) string { addr, _ := startDistribution(t); return addr },
	}
	const small, large = 100_000, 3_000_000
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			config := t.TempDir()
			push := func(to string, img v1.Image) (sent []registry.Sent, err error) {
				ref, err := registry.ParseReference(to)
				if err != nil {
					t.Fatal(err)
				}
				client := registry.New(registry.Options{ConfigDir: config})
				return sent, client.Push(t.Context(), ref, img, registry.PushOptions{Progress: func(s registry.Sent) {
					if s.Phase != "upload" {
						sent = append(sent, s)
					}
				}})
			}
			img := imageOf(t, small, large, large)
			// All three come before all layers can have arrived, whatever is sent twice.
			line := &brittle{breaks: []int64{1_000_000, 3_000_000, 5_500_000}}
			addr := line.line(t, server)
			sent, err := push(addr+"/team/app:v1", img)
			if err != nil || line.broke != 3 || len(sent) != 3 || slices.ContainsFunc(sent, func(s registry.Sent) bool { return s.Phase != "done" }) {
				t.Fatalf("%d breaks: %+v, %v", line.broke, sent, err)
			}
			samePulled(t, server+"/team/app:v1", img)
			line.mend()
			if sent, err = push(addr+"/team/app:v2", img); err != nil || line.mend() > small {
				t.Errorf("again: %+v, %v", sent, err)
			}

			img = imageOf(t, small, large)
			line.each = large / 2
			if _, err = push(addr+"/team/app:v3", img); !errors.Is(err, registry.ErrUnavailable) {
				t.Fatalf("it breaks for good: %v", err)
			}
			line.mend()
			sent, err = push(addr+"/team/app:v3", img)
			slices.SortFunc(sent, func(a, b registry.Sent) int { return a.Index - b.Index })
			if err != nil || len(sent) != 2 || sent[0].Phase != "exists" || sent[1].Phase != "done" {
				t.Errorf("mended: %+v, %v", sent, err)
			}
			if n := line.mend(); n < large || n > large+small {
				t.Errorf("mended: %d bytes were sent", n)
			}
			samePulled(t, server+"/team/app:v3", img)
		})
	}
}

// imageOf is an image of layers that cannot be compressed, so many bytes each.
func imageOf(t *testing.T, sizes ...int64) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for _, size := range sizes {
		l, err := random.Layer(size, types.DockerLayer)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// samePulled pulls an image and compares; what is read is held to its digests.
func samePulled(t *testing.T, from string, want v1.Image) {
	t.Helper()
	ref, err := registry.ParseReference(from)
	if err != nil {
		t.Fatal(err)
	}
	got, err := registry.New(registry.Options{ConfigDir: t.TempDir()}).Pull(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := got.Digest()
	b, _ := want.Digest()
	if a != b {
		t.Errorf("%s is %s, want %s", from, a, b)
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
		r.Close()
	}
}
