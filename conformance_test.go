package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// conformanceTests is the program that OCI tests registries with: make test has built it beside hull.
func conformanceTests(t *testing.T) string {
	if built := os.Getenv("HULL_BIN"); built != "" {
		name := filepath.Join(filepath.Dir(built), "conformance")
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command, or make test")
	}
	name := filepath.Join(t.TempDir(), "conformance")
	build := exec.Command("go", "build", "-o", name, "github.com/opencontainers/distribution-spec/conformance")
	build.Dir, build.Env = "testdata/conformance", append(os.Environ(), "GOFLAGS=-mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build OCI's conformance tests: %v\n%s", err, out)
	}
	return name
}

// TestRegistryConformance has OCI's own tests judge hull registry serve: pull, push, content discovery and management,
// by the released specification (1.1) and by what is to be the next. Of the latter only manifests whose layers were not
// pushed are left out, which hull refuses.
func TestRegistryConformance(t *testing.T) {
	tests := conformanceTests(t)
	for _, version := range []string{"1.1", "dev"} {
		for name, dir := range map[string]string{"folder": filepath.Join(t.TempDir(), "registry"), "temporary": ""} {
			if version == "dev" && dir == "" {
				continue
			}
			t.Run(version+"-"+name, func(t *testing.T) {
				var args []string
				if dir != "" {
					args = []string{dir}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, tests)
				cmd.Dir = t.TempDir()
				cmd.Env = []string{"OCI_VERSION=" + version, "OCI_REGISTRY=" + serveRegistry(t, args...), "OCI_TLS=disabled", "OCI_LOG=error",
					"OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true"}
				out, err := cmd.CombinedOutput()
				// The summary at the end is short; what went before is each request.
				_, summary, _ := bytes.Cut(out, []byte("OCI Conformance Result: "))
				if err != nil || !bytes.HasPrefix(summary, []byte("Pass")) {
					t.Errorf("%v\n%s", err, summary)
					for _, line := range regexp.MustCompile(`(?m)^.*: FAIL\n.*$`).FindAll(out, 20) {
						t.Logf("%s", line)
					}
				}
				// Nothing may pass for having been left out.
				for line := range strings.Lines(string(summary)) {
					left := strings.HasSuffix(line, "Disabled\n") || strings.HasSuffix(line, "Skip\n")
					if left && !strings.Contains(line, "Sparse") && (version == "dev" || !strings.Contains(strings.ToLower(line), "tag param")) {
						t.Errorf("not tested: %s", line)
					}
				}
			})
		}
	}
}
