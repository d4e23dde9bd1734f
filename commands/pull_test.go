package commands

import (
	"context"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/hullrun/hull/registry"
)

// serve runs hull's own registry until the test ends, and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- registry.Serve(ctx, l, "") }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestPullAndPush(t *testing.T) {
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "")
	t.Setenv("HOME", t.TempDir())
	h := fillStore(t)
	web, err := h.Images.Lookup("me/web")
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t)
	name := addr + "/me/web"
	answer(t, "tag", "me/web", name)
	answer(t, "tag", "me/web", name+":v2")
	if out := answer(t, "push", name+":v2"); !strings.Contains(out, "\nv2: digest: "+web.Digest+" size: ") {
		t.Errorf("push: %q", out)
	}
	if out := answer(t, "push", "-a", name); strings.Count(out, "Layer already exists") != 4 || !strings.Contains(out, "\nlatest: digest: "+web.Digest) {
		t.Errorf("push -a: %q", out)
	}
	if out := answer(t, "push", "-q", name); out != name+":latest\n" {
		t.Errorf("push -q: %q", out)
	}
	if code, out, errs := hull(t, "push", addr+"/nope"); code != 1 || !strings.Contains(out, "refers to repository") || !strings.Contains(errs, "An image does not exist locally with the tag: "+addr+"/nope") {
		t.Error(code, out, errs)
	}

	t.Setenv("HULL_ROOT", t.TempDir())
	layer := `[0-9a-f]{12}: Pulling fs layer\n`
	complete := `(?:[0-9a-f]{12}: (?:Pulling fs layer|Download complete|Pull complete)\n)*`
	want := regexp.MustCompile(`^Using default tag: latest\nlatest: Pulling from me/web\n` + layer + complete +
		`Digest: ` + web.Digest + `\nStatus: Downloaded newer image for ` + name + `:latest\n` + name + `:latest\n$`)
	if out := answer(t, "pull", name); !want.MatchString(out) || strings.Count(out, "Pull complete") != 2 {
		t.Errorf("pull: %s", out)
	}
	if out := answer(t, "pull", name+":latest"); out != "latest: Pulling from me/web\nDigest: "+web.Digest+"\nStatus: Image is up to date for "+name+":latest\n"+name+":latest\n" {
		t.Errorf("pull again: %q", out)
	}
	if out := answer(t, "image", "pull", "-q", name); out != web.ID+"\n" {
		t.Errorf("pull -q: %q", out)
	}
	if out := answer(t, "pull", "-a", name); !strings.Contains(out, "latest: Pulling") || !strings.Contains(out, "v2: Pulling") {
		t.Errorf("pull -a: %q", out)
	}
	if out := answer(t, "images", "--format", "{{.Tag}}"); out != "latest\nv2\n" {
		t.Errorf("images: %q", out)
	}
	for args, want := range map[string]string{
		"pull " + addr + "/nope":    "not found",
		"push -a " + name + ":v2":   "tag can't be used with --all-tags/-a",
		"push -a " + addr + "/none": "An image does not exist locally with the tag: " + addr + "/none",
		"pull -a " + name + ":v2":   "tag can't be used with --all-tags/-a",
		"pull UPPER/case!":          "UPPER/case!",
		"pull oci:/no/such/layout":  "no such file or directory",
		"pull --tls-verify=false x": "--tls-verify \"false\": is not known yet",
	} {
		code, _, errs := hull(t, strings.Fields(args)...)
		if code != 1 && !strings.Contains(args, "-a") && !strings.Contains(args, "tls") || code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q", args, code, errs)
		}
	}
}
