package commands

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/run"
)

// fillStore makes a store with an image of two layers, "web" by two names, and an older one, "base", which is its lower
// layer alone. HULL_ROOT names the store.
func fillStore(t *testing.T) *run.Host {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	t.Setenv("HULL_ROOT", root)
	h, err := run.Open("")
	if err != nil {
		t.Fatal(err)
	}
	lower, upper := layerOf(t, "lower", 1000), layerOf(t, "upper", 2000)
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	base := imageOf(t, created.AddDate(-1, 0, 0), nil, lower)
	web := imageOf(t, created, map[string]string{"tier": "front"}, lower, upper)
	for name, img := range map[string]v1.Image{"docker.io/library/base:latest": base, "localhost:5000/me/web:v1": web} {
		if _, err := h.Images.Add(t.Context(), name, img, layers.AddOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Images.Tag("localhost:5000/me/web:v1", "docker.io/me/web:latest"); err != nil {
		t.Fatal(err)
	}
	return h
}

func layerOf(t *testing.T, name string, size int) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

func imageOf(t *testing.T, created time.Time, labels map[string]string, layerList ...v1.Layer) v1.Image {
	t.Helper()
	img := empty.Image
	for _, l := range layerList {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: l, History: v1.History{
			Created: v1.Time{Time: created}, CreatedBy: "RUN make\tsomething that takes more than forty-five characters # buildkit", Comment: "by hand",
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.Config(img, v1.Config{Cmd: []string{"/lower"}, Env: []string{"A=1"}, Labels: labels})
	if err == nil {
		img, err = mutate.CreatedAt(img, v1.Time{Time: created})
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// container saves a container as package run does.
func container(t *testing.T, h *run.Host, image string, s run.State) {
	t.Helper()
	img, err := h.Images.Lookup(image)
	if err != nil {
		t.Fatal(err)
	}
	s.ID = strings.Repeat(s.ID, 64)
	s.ImageID, s.Image, s.Config.Image = img.ID, img.Name, image
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(h.Root, "containers", s.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "container.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// answer runs hull and wants an answer without a word on stderr.
func answer(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := hull(t, args...)
	if code != 0 || errs != "" {
		t.Errorf("hull %s: status %d, %q", strings.Join(args, " "), code, errs)
	}
	return out
}

func TestImages(t *testing.T) {
	h := fillStore(t)
	img, err := h.Images.Lookup("me/web")
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"images --format {{.Repository}}:{{.Tag}}|{{.Size}}": "localhost:5000/me/web:v1|3kB\nme/web:latest|3kB\nbase:latest|1kB\n",
		"image ls base --format {{.Repository}}":             "base\n",
		"image list base:latest --format {{.Repository}}":    "base\n",
		"images base:2 -q":                                                 "",
		"images me/* --format {{.Repository}}":                             "me/web\n",
		"images -q --no-trunc me/web":                                      img.ID + "\n",
		"images -q me/web":                                                 img.ID[7:19] + "\n",
		"images -f dangling=true -q":                                       "",
		"images -f label=tier=front -f before=base -q":                     "",
		"images -f label=tier --format {{.Repository}} -f since=base":      "localhost:5000/me/web\nme/web\n",
		"images -f before=me/web --format {{.Repository}}":                 "base\n",
		"images -f until=2025-06-01 --format {{.Repository}}":              "base\n",
		"images -f reference=base -f reference=me/web:* --format {{.Tag}}": "latest\nlatest\n",
		"images --digests --format {{.Digest}} me/web":                     img.Digest + "\n",
	} {
		if got := answer(t, strings.Fields(args)...); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", args, got, want)
		}
	}
	if got := answer(t, "images"); !strings.HasPrefix(got, "REPOSITORY              TAG       IMAGE ID       CREATED ") {
		t.Errorf("table: %q", got)
	}
	if got := answer(t, "images", "--digests", "base"); !strings.HasPrefix(got, "REPOSITORY   TAG       DIGEST   ") {
		t.Errorf("table: %q", got)
	}
	for args, want := range map[string]string{
		"images --format {{.Bogus}}": "want one of Containers CreatedAt CreatedSince Digest ID Repository",
		"images -f bogus=1":          `invalid filter "bogus"`,
		"images -f since=nope":       "No such image: nope",
		"images -f dangling=maybe":   "want true or false",
		"images a b":                 "'hull images' requires at most 1 argument",
	} {
		if code, _, errs := hull(t, strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: status %d, %q", args, code, errs)
		}
	}
}

func TestHistory(t *testing.T) {
	h := fillStore(t)
	img, err := h.Images.Lookup("me/web")
	if err != nil {
		t.Fatal(err)
	}
	const by = "RUN make something that takes more than fort…"
	id := img.ID[7:19]
	for args, want := range map[string]string{
		"history me/web --format {{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}": id + "|" + by + "|2kB|by hand\n<missing>|" + by + "|1kB|by hand\n",
		"image history -q me/web":                                    id + "\n<missing>\n",
		"history -q --no-trunc me/web":                               img.ID + "\n<missing>\n",
		"history -H=false --format {{.CreatedSince}}|{{.Size}} base": "2025-01-02T03:04:05Z|1000\n",
	} {
		if got := answer(t, strings.Fields(args)...); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", args, got, want)
		}
	}
	if got := answer(t, "history", "base"); !strings.HasPrefix(got, "IMAGE          CREATED") || !strings.Contains(got, "CREATED BY   ") {
		t.Errorf("table: %q", got)
	}
	if got := answer(t, "history", "-H=false", "base"); !strings.Contains(got, "CREATED AT") {
		t.Errorf("table: %q", got)
	}
	if code, out, errs := hull(t, "history", "nope"); code != 1 || out != "" || errs != "hull: No such image: nope\n" {
		t.Error(code, out, errs)
	}
}

func TestImageInspect(t *testing.T) {
	h := fillStore(t)
	img, err := h.Images.Lookup("me/web")
	if err != nil {
		t.Fatal(err)
	}
	var docs []map[string]any
	if err := json.Unmarshal([]byte(answer(t, "image", "inspect", "me/web")), &docs); err != nil || len(docs) != 1 {
		t.Fatal(err, docs)
	}
	for _, key := range strings.Fields("Id RepoTags RepoDigests Comment Created Author Config Architecture Os Size GraphDriver RootFS Metadata Descriptor") {
		if docs[0][key] == nil {
			t.Errorf("no %s", key)
		}
	}
	for format, want := range map[string]string{
		"{{.Id}} {{.RepoTags}}":                         img.ID + " [localhost:5000/me/web:v1 me/web:latest]",
		"{{.Config.Cmd}} {{json .Config.Env}}":          `[/lower] ["A=1"]`,
		`{{index .Config.Labels "tier"}}`:               "front",
		"{{len .RootFS.Layers}} {{.RootFS.Type}}":       "2 layers",
		"{{.Created}} {{.Size}} {{.Comment}}":           "2026-01-02T03:04:05Z 3000 by hand",
		"{{.Descriptor.digest}} {{.RepoDigests}}":       img.Digest + " [localhost:5000/me/web@" + img.Digest + " me/web@" + img.Digest + "]",
		"{{.GraphDriver.Name}} {{.Config.WorkingDir}}|": "overlay2 |",
	} {
		if got := answer(t, "image", "inspect", "-f", format, img.ID[7:19]); got != want+"\n" {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
	if code, out, errs := hull(t, "image", "inspect", "nope", "base", "-f", "{{.Comment}}"); code != 1 || out != "by hand\n" || errs != "hull: No such image: nope\n" {
		t.Error(code, out, errs)
	}
	if code, out, errs := hull(t, "image", "inspect", "nope", "never"); code != 1 || out != "[]\n" || errs != "hull: No such image: nope\nhull: No such image: never\n" {
		t.Error(code, out, errs)
	}
	if code, out, _ := hull(t, "image", "inspect", "nope", "-f", "x"); code != 1 || out != "\n" {
		t.Error(code, out)
	}
}

func TestRemoveImages(t *testing.T) {
	h := fillStore(t)
	img, err := h.Images.Lookup("base")
	if err != nil {
		t.Fatal(err)
	}
	container(t, h, "base", run.State{ID: "a", Name: "user", Status: run.Exited})
	if code, out, errs := hull(t, "rmi", "base"); code != 1 || out != "" ||
		!strings.Contains(errs, `conflict: unable to remove repository reference "base" (must force) - container aaaaaaaaaaaa is using`) {
		t.Error(code, out, errs)
	}
	if code, out, errs := hull(t, "rmi", "nope", "me/web"); code != 1 || out != "Untagged: me/web:latest\n" || errs != "hull: No such image: nope\n" {
		t.Error(code, out, errs)
	}
	if code, out, errs := hull(t, "rmi", "-f", "nope"); code != 0 || out != "" || errs != "hull: No such image: nope\n" {
		t.Error(code, out, errs)
	}
	if got := answer(t, "image", "rm", "localhost:5000/me/web:v1"); !strings.HasPrefix(got, "Untagged: localhost:5000/me/web:v1\nDeleted: sha256:") {
		t.Errorf("%q", got)
	}
	if got := answer(t, "images", "--format", "{{.Repository}} {{.ID}}"); got != "base "+img.ID[7:19]+"\n" {
		t.Errorf("left: %q", got)
	}
}

func TestPs(t *testing.T) {
	h := fillStore(t)
	now := time.Now()
	container(t, h, "me/web", run.State{ID: "a", Name: "old", Status: run.Exited, ExitCode: 3, Args: []string{"sleep", "infinity", "and more words"},
		Created: now.Add(-3 * time.Hour), Finished: now.Add(-2 * time.Hour), Labels: map[string]string{"k": "v", "j": ""}})
	container(t, h, "base", run.State{ID: "b", Name: "new", Status: run.Created, Args: []string{"true"}, Created: now.Add(-90 * time.Second),
		Mounts: []run.MountSpec{{Type: "bind", Source: "/a/rather/long/path", Target: "/x"}, {Type: "volume", Source: "data", Target: "/d"}},
		Config: run.Config{
			Network: run.NetworkConfig{Mode: "host", Expose: []string{"80/tcp"}}}})
	for args, want := range map[string]string{
		"ps -q":             "",
		"container ls -aq":  "bbbbbbbbbbbb\naaaaaaaaaaaa\n",
		"ps -lq":            "bbbbbbbbbbbb\n",
		"ps -n1 -q":         "bbbbbbbbbbbb\n",
		"ps -aq --no-trunc": strings.Repeat("b", 64) + "\n" + strings.Repeat("a", 64) + "\n",
		"ps -a --format {{.Names}}|{{.Image}}|{{.Command}}|{{.Status}}|{{.State}}|{{.RunningFor}}|{{.Labels}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}": "" +
			`new|base|"true"|Created|created|About a minute ago||/a/rather/long…,data|1|host` + "\n" +
			`old|me/web|"sleep infinity and …"|Exited (3) 2 hours ago|exited|3 hours ago|j=,k=v||0|none` + "\n",
		`ps -a --format {{.Label "k"}}`:              "\nv\n",
		"ps -q -f status=exited":                     "aaaaaaaaaaaa\n",
		"ps -q -f exited=3":                          "aaaaaaaaaaaa\n",
		"ps -q -f status=exited -f status=created":   "bbbbbbbbbbbb\naaaaaaaaaaaa\n",
		"ps -aq -f name=^/?n":                        "bbbbbbbbbbbb\n",
		"ps -aq -f name=ne -f name=ol":               "bbbbbbbbbbbb\naaaaaaaaaaaa\n",
		"ps -aq -f id=bb":                            "bbbbbbbbbbbb\n",
		"ps -aq -f label=k=v -f label=j":             "aaaaaaaaaaaa\n",
		"ps -aq -f label=k -f label=nope":            "",
		"ps -aq -f ancestor=base":                    "bbbbbbbbbbbb\naaaaaaaaaaaa\n",
		"ps -aq -f ancestor=me/web":                  "aaaaaaaaaaaa\n",
		"ps -aq -f since=" + strings.Repeat("a", 12): "bbbbbbbbbbbb\n",
		"ps -aq -f volume=data":                      "bbbbbbbbbbbb\n",
		"ps -aq -f volume=/x":                        "bbbbbbbbbbbb\n",
		"ps -aq -f network=host":                     "bbbbbbbbbbbb\n",
		"ps -aq -f expose=80":                        "bbbbbbbbbbbb\n",
		"ps -aq -f publish=80":                       "",
		"ps -aq -f health=none -f is-task=false":     "bbbbbbbbbbbb\naaaaaaaaaaaa\n",
	} {
		words := strings.Fields(args)
		if strings.Contains(args, ".Label ") {
			words = []string{"ps", "-a", "--format", `{{.Label "k"}}`}
		}
		if got := answer(t, words...); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", args, got, want)
		}
	}
	if got := answer(t, "ps"); got != "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n" {
		t.Errorf("%q", got)
	}
	for args, want := range map[string]string{
		"ps -f status=lost": "invalid value", "ps -f exited=x": "exit status", "ps -f name=[": "missing closing", "ps -f since=nope": "No such container: nope",
		"ps -f x": "bad format", "ps more": "accepts no arguments",
	} {
		if code, out, errs := hull(t, strings.Fields(args)...); code != 1 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q %q", args, code, out, errs)
		}
	}
}

func TestInspect(t *testing.T) {
	h := fillStore(t)
	container(t, h, "base", run.State{ID: "c", Name: "web", Status: run.Exited, ExitCode: 3, Args: []string{"sh", "-c", "exit 3"}})
	id := strings.Repeat("c", 64)
	for args, want := range map[string]string{
		"inspect ccc -f {{.Id}}|{{.Name}}|{{.State.ExitCode}}|{{.State.Status}}": id + "|/web|3|exited\n",
		"inspect ccc base -f {{.Id}}":                                            id + "\n" + answer(t, "images", "-q", "--no-trunc", "base"),
		"container inspect ccc -f {{.Config.Image}}":                             "base\n",
		"inspect --type image base -f {{.RepoTags}}":                             "[base:latest]\n",
		"inspect ccc -f {{.Config.Env}}{{.HostConfig.NanoCpus}}":                 "[A=1]0\n",
	} {
		if got := answer(t, strings.Fields(args)...); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", args, got, want)
		}
	}
	for args, want := range map[string]string{
		"inspect nope":                  "[]\nhull: No such object: nope\n",
		"inspect --type image ccc":      "[]\nhull: No such image: ccc\n",
		"inspect --type container base": "[]\nhull: No such container: base\n",
		"inspect --type volume base":    "[]\nhull: get base: no such volume\n",
		"inspect --type odd base":       "hull: type \"odd\": not a valid value: want container, image, network or volume\n",
		"inspect nope -f {{.Id}}":       "\nhull: No such object: nope\n",
		"container inspect nope":        "[]\nhull: No such container: nope\n",
	} {
		if code, out, errs := hull(t, strings.Fields(args)...); code != 1 || out+errs != want {
			t.Errorf("%s: %d %q", args, code, out+errs)
		}
	}
}

func TestInfo(t *testing.T) {
	h := fillStore(t)
	container(t, h, "base", run.State{ID: "c", Name: "web", Status: run.Exited})
	for args, want := range map[string]string{
		"info -f {{.Images}}|{{.Containers}}|{{.ContainersStopped}}|{{.DockerRootDir}}": "2|1|1|" + h.Root + "\n",
		"system info --format {{.OSType}}|{{.Swarm.LocalNodeState}}|{{.Driver}}":        "linux|inactive|overlay2\n",
	} {
		if got := answer(t, strings.Fields(args)...); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(answer(t, "info", "-f", "json")), &doc); err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Fields("ServerVersion CgroupVersion CgroupDriver Architecture NCPU MemTotal SecurityOptions RegistryConfig ClientInfo") {
		if doc[key] == nil {
			t.Errorf("no %s", key)
		}
	}
	if got := answer(t, "info"); !strings.Contains(got, "\nServer:\n Containers: 1\n  Running: 0\n") {
		t.Errorf("%q", got)
	}
}

func TestTag(t *testing.T) {
	fillStore(t)
	if out := answer(t, "tag", "me/web", "other/web:2") + answer(t, "images", "other/web", "--format", "{{.Tag}}"); out != "2\n" {
		t.Errorf("%q", out)
	}
	for args, want := range map[string]string{
		"tag nope x": "hull: No such image: nope\n", "tag base UPPER": "reference", "tag base": "'hull tag' requires 2 arguments",
	} {
		if code, out, errs := hull(t, strings.Fields(args)...); code != 1 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q %q", args, code, out, errs)
		}
	}
}
