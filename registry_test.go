package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/hullrun/hull/registry"
)

// startServer runs hull registry serve and returns its address once it says so.
func startServer(t *testing.T, stderr io.Writer, args ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(cmp.Or(os.Getenv("HULL_BIN"), "hull"), append([]string{"registry", "serve", "--addr", "127.0.0.1:0"}, args...)...)
	cmd.Stderr = stderr
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "Serving a registry on ")
	if !ok {
		t.Fatalf("hull registry serve says %q", line)
	}
	return cmd, addr
}

// serveRegistry runs hull registry serve until the test ends, and wants it to say nothing and to end well.
func serveRegistry(t *testing.T, args ...string) string {
	t.Helper()
	var log bytes.Buffer
	cmd, addr := startServer(t, &log, args...)
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || log.Len() > 0 {
			t.Errorf("hull registry serve: %v\n%s", err, &log)
		}
	})
	return addr
}

// send sends a request and returns the status and the body, or an error if no whole answer came.
func send(method, url, contentType, body string) (int, string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func digestOf(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

// TestRegistryKilled kills a registry again and again while things are pushed to it from several sides. What it said to
// have taken it has when it comes back, byte for byte, and what it was told to remove stays away.
func TestRegistryKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "registry")
	var mu sync.Mutex
	want := map[string]string{} // path: content, "" for what was deleted
	note := func(path, content string) {
		mu.Lock()
		defer mu.Unlock()
		want[path] = content
	}
	for round := range 8 {
		cmd, addr := startServer(t, os.Stderr, dir)
		for path, content := range want {
			status, got, err := send("GET", "http://"+addr+path, "", "")
			if content == unknown {
				continue
			}
			if err != nil || content != "" && (status != 200 || got != content) || content == "" && status != 404 {
				t.Fatalf("round %d: %s: %d, %d bytes of %d, %v", round, path, status, len(got), len(content), err)
			}
		}
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() { pushUntilKilled(addr, fmt.Sprintf("%d-%d", round, n), note) })
		}
		time.Sleep(time.Duration(50+rand.IntN(300)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		wg.Wait()
	}
	if len(want) < 8 { // a slow machine has not many
		t.Errorf("only %d things were pushed", len(want))
	}
	t.Logf("%d things were there", len(want))
	serveRegistry(t, dir)
	left, _ := filepath.Glob(dir + "/uploads/*-*")
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// unknown is the content of something whose deletion was asked for and not answered.
const unknown = "?"

func pushUntilKilled(addr, id string, note func(path, content string)) {
	base := "http://" + addr
	for i := 0; ; i++ {
		repo := "/v2/" + fmt.Sprint("r", i%2)
		layer := strings.Repeat(fmt.Sprintf("%s-%d ", id, i), 1+rand.IntN(20_000))
		status, _, err := send("POST", base+repo+"/blobs/uploads/?digest="+digestOf(layer), "application/octet-stream", layer)
		if err != nil || status != 201 {
			return
		}
		note(repo+"/blobs/"+digestOf(layer), layer)
		manifest := fmt.Sprintf(`{"layers":[{"mediaType":"a/b","digest":%q,"size":%d}]}`, digestOf(layer), len(layer))
		tag := repo + "/manifests/" + id + fmt.Sprintf("-%d", i)
		if status, _, err = send("PUT", base+tag, "application/vnd.example+json", manifest); err != nil || status != 201 {
			return
		}
		note(tag, manifest)
		note(repo+"/manifests/"+digestOf(manifest), manifest)
		if i%3 > 0 {
			continue
		}
		note(tag, unknown)
		if status, _, err = send("DELETE", base+tag, "", ""); err != nil || status != 202 {
			return
		}
		note(tag, "")
	}
}

// startDistribution runs Debian's docker-registry, until the test ends or kill is called.
func startDistribution(t *testing.T) (addr string, kill func()) {
	t.Helper()
	const binary = "/usr/bin/docker-registry"
	if _, err := os.Stat(binary); err != nil {
		t.Skip("the Debian package docker-registry is not installed")
	}
	port, giveBack, err := ownPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(giveBack)
	addr = "127.0.0.1:" + port
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir+"/data", addr)
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", dir+"/config.yml")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "OTEL_TRACES_EXPORTER=none"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(kill)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := send("GET", "http://"+addr+"/v2/", "", ""); err == nil {
			return addr, kill
		}
		if time.Now().After(deadline) {
			t.Fatal("docker-registry does not answer")
		}
	}
}

// TestRegistryMirrorsDistribution has hull mirror the registry that most of the world runs.
func TestRegistryMirrorsDistribution(t *testing.T) {
	dir := t.TempDir()
	upstream, kill := startDistribution(t)
	img, err := random.Image(3_000_000, 4)
	if err != nil {
		t.Fatal(err)
	}
	client := func() *registry.Client { return registry.New(registry.Options{ConfigDir: dir}) }
	parse := func(s string) registry.Reference {
		ref, err := registry.ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	if err := client().Push(t.Context(), parse(upstream+"/team/app:v1"), img, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	_, mirror := startServer(t, io.Discard, "--mirror", "http://"+upstream, filepath.Join(dir, "mirror"))
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []bool{false, true} {
		if gone {
			kill()
		}
		got, err := client().Pull(t.Context(), parse(mirror+"/team/app:v1"), nil)
		if err != nil {
			t.Fatalf("upstream gone: %v: %v", gone, err)
		}
		if digest, err := got.Digest(); err != nil || digest != want {
			t.Errorf("upstream gone: %v: digest %v, %v, want %v", gone, digest, err, want)
		}
		layers, err := got.Layers()
		if err != nil || len(layers) != 4 {
			t.Fatalf("%d layers, %v", len(layers), err)
		}
		for _, layer := range layers {
			r, err := layer.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Errorf("upstream gone: %v: %v", gone, err)
			}
			r.Close()
		}
	}
}
