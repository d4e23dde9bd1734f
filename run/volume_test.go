package run

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// volumeHost is a host of the test's own, for tests that count what is there.
func volumeHost(t *testing.T) *Host {
	t.Helper()
	needStatic(t)
	h, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.removeTree(filepath.Join(h.Root, "volumes")); err != nil {
			t.Error(err)
		}
		if err := h.removeTree(h.Root); err != nil {
			t.Error(err)
		}
	})
	return h
}

// addImage adds an image that is the built-in one with more layers on it. A file's name that ends in a slash is a directory,
// and its content "->TARGET" a link.
func addImage(t *testing.T, h *Host, name string, volumes []string, more ...map[string]string) {
	t.Helper()
	img, err := hello()
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range more {
		if img, err = mutate.AppendLayers(img, static.NewLayer(layerOf(t, files), types.OCIUncompressedLayer)); err != nil {
			t.Fatal(err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Volumes = map[string]struct{}{}
	for _, v := range volumes {
		config.Config.Volumes[v] = struct{}{}
	}
	var full v1.Image
	if full, err = mutate.ConfigFile(img, config); err == nil {
		_, err = h.Images.Add(t.Context(), "docker.io/library/"+name+":latest", full, layers.AddOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func layerOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var sorted []string
	for name := range files {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	for _, name := range sorted {
		content := files[name]
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)}
		if strings.HasSuffix(name, "/") {
			header.Typeflag, header.Mode = tar.TypeDir, 0o751
		} else if target, link := strings.CutPrefix(content, "->"); link {
			header.Typeflag, header.Linkname, header.Size, content = tar.TypeSymlink, target, 0, ""
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// volumeContainer makes a container of an image with these -v.
func volumeContainer(t *testing.T, h *Host, image string, specs ...string) *Container {
	t.Helper()
	config := Config{Image: image, Process: ProcessConfig{Entrypoint: &[]string{"/hull"}, Env: []string{verbEnv + "=exit", "CODE=0"}}}
	for _, s := range specs {
		m, err := ParseVolume(s, "/", "/")
		if err != nil {
			t.Fatal(err)
		}
		config.Files.Mounts = append(config.Files.Mounts, m)
	}
	return create(t, h, config)
}

// content shows the files below dir: "a=1 sub/ sub/b=2".
func content(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case rel == ".":
			return nil
		case d.IsDir():
			all = append(all, rel+"/")
			return nil
		case d.Type() == os.ModeSymlink:
			target, _ := os.Readlink(path)
			all = append(all, rel+"->"+target)
			return nil
		}
		data, err := os.ReadFile(path)
		if len(data) > 100 {
			data = fmt.Appendf(nil, "%d bytes", len(data))
		}
		all = append(all, rel+"="+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// finish runs a container to its end.
func finish(t *testing.T, c *Container) {
	t.Helper()
	if res, err := c.Run(t.Context(), IO{Err: os.Stderr}); err != nil || res.Code != 0 {
		t.Fatal(res, err)
	}
}

// TestVolumeFirstUse: a fresh volume has what the image shows in its place, once.
func TestVolumeFirstUse(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil,
		map[string]string{"srv/real/": "", "srv/real/a": "1", "srv/real/sub/b": "2", "srv/real/gone": "x", "data": "->/srv/real", "out": "->../../../../../../../etc",
			"old/x": "1", "file": "", "home/": ""},
		map[string]string{"srv/real/.wh.gone": "", "srv/real/c": "3", "old/.wh..wh..opq": "", "old/y": "2"})
	const all = "a=1 c=3 sub/ sub/b=2"
	for _, row := range []struct{ spec, want string }{
		{"one:/srv/real", all}, {"two:/data", all}, {"three:/data:nocopy", ""}, {"four:/old", "y=2"}, {"five:/nowhere", ""}, {"six:/file/x", ""},
		{"seven:/data/sub:ro", "b=2"}, {"eight:/out", "hostname= hosts= resolv.conf="}, {"nine:/home", ""}, {"one:/old", all}, {"three:/data", all},
	} {
		c := volumeContainer(t, h, "full", row.spec)
		name, _, _ := strings.Cut(row.spec, ":")
		got := content(t, h.volumeData(name))
		if name == "eight" && got == "" {
			row.want = "" // the image's /etc is empty, and not the host's
		}
		if got != row.want {
			t.Errorf("%s: %q, want %q", row.spec, got, row.want)
		}
		if left := names(h.volumeDir(name)); !slices.Equal(left, []string{"_data", volumeFile}) {
			t.Errorf("%s: %q", row.spec, left)
		}
		c.Close()
		if err := c.Remove(RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"one": 0o755, "nine": 0o751, "five": 0o755} {
		if st, err := os.Stat(h.volumeData(name)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %o", name, st.Mode(), err, mode)
		}
	}
	if err := os.WriteFile(h.volumeData("one")+"/a", []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if volumeContainer(t, h, "full", "one:/data"); content(t, h.volumeData("one")) != "a=changed c=3 sub/ sub/b=2" {
		t.Error("copied twice:", content(t, h.volumeData("one")))
	}
}

// TestVolumeOfHost: a volume that is a directory of the host is filled, too.
func TestVolumeOfHost(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil, map[string]string{"data/a": "1", "data/sub/b": "2"})
	dir := t.TempDir()
	if _, err := h.CreateVolume(VolumeConfig{Name: "host", Options: map[string]string{"type": "none", "o": "bind", "device": dir}}); err != nil {
		t.Fatal(err)
	}
	// What a killed hull has left.
	for _, path := range []string{"/.hull-copying-host", "/.hull-copying-host/half"} {
		if err := os.Mkdir(dir+path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	volumeContainer(t, h, "full", "host:/data")
	if got := content(t, dir); got != "a=1 sub/ sub/b=2" {
		t.Error(got)
	}
	if got := content(t, h.volumeData("host")); got != "" {
		t.Error(got)
	}
}

// TestVolumeCopyCutShort finds what a killed hull has left of a copy, and makes a whole one of it.
func TestVolumeCopyCutShort(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil, map[string]string{"data/": "", "data/a": "1", "data/b": "2"})
	for _, row := range []struct {
		name string
		left map[string]string // below the volume's directory
		want string
		// mended is what system check --repair makes of it first; "" to leave it.
		mended string
	}{
		{"half", map[string]string{".hull-copying-half/a": "cut"}, "a=1 b=2", ""},
		{"whole", map[string]string{".hull-copied-whole/a": "1", ".hull-copied-whole/b": "2"}, "a=1 b=2", ""},
		{"moving", map[string]string{".hull-copied-moving/b": "2", "_data/a": "1"}, "a=1 b=2", ""},
		{"moved", map[string]string{".hull-copied-moved/": "", "_data/a": "1", "_data/b": "2"}, "a=1 b=2", ""},
		{"used", map[string]string{".hull-copied-used/b": "2", "_data/a": "1", "_data/b": "a program's"}, "a=1 b=a program's", ""},
		{"filled", map[string]string{".hull-copying-filled/a": "cut", "_data/x": "somebody's"}, "x=somebody's", ""},
		{"half-mended", map[string]string{".hull-copying-half-mended/a": "cut", "_data/x": "1"}, "x=1", "x=1"},
		{"whole-mended", map[string]string{".hull-copied-whole-mended/a": "1", ".hull-copied-whole-mended/b": "2"}, "a=1 b=2", "a=1 b=2"},
	} {
		if _, err := h.CreateVolume(VolumeConfig{Name: row.name}); err != nil {
			t.Fatal(err)
		}
		for path, text := range row.left {
			path = h.volumeDir(row.name) + "/" + path
			if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o751); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(path, "/") {
				continue
			}
			if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		if row.mended != "" {
			told := flaws(t, h, true)
			if len(told) != 1 || !strings.HasPrefix(told[0], "volume "+row.name+": ") || !strings.HasSuffix(told[0], " true <nil>") {
				t.Errorf("%s: %q", row.name, told)
			}
			if got := content(t, h.volumeDir(row.name)+"/_data"); got != row.mended {
				t.Errorf("%s: mended to %q, want %q", row.name, got, row.mended)
			}
		}
		volumeContainer(t, h, "full", row.name+":/data")
		if got := content(t, h.volumeData(row.name)); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
		if left := names(h.volumeDir(row.name)); !slices.Equal(left, []string{"_data", volumeFile}) {
			t.Errorf("%s: %q", row.name, left)
		}
	}
}

// flaws is what system check says of volumes.
func flaws(t *testing.T, h *Host, repair bool) (told []string) {
	t.Helper()
	list, err := h.leftCopies()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		var err error
		mended := repair && p.mend != nil
		if mended {
			err = p.mend()
		}
		told = append(told, fmt.Sprint(p.what, " ", mended, " ", err))
	}
	return told
}

// TestVolumeCopiedOnce: of many that want a fresh volume at once one copies, and no other goes on before it is done.
func TestVolumeCopiedOnce(t *testing.T) {
	h := volumeHost(t)
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("data/%02d", i)] = strings.Repeat("x", 10000+i)
	}
	addImage(t, h, "full", nil, files)
	img, err := h.Images.Lookup("full")
	if err != nil {
		t.Fatal(err)
	}
	v, err := h.CreateVolume(VolumeConfig{Name: "shared"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var inodes [8]uint64
	for i := range inodes {
		wg.Go(func() {
			if err := h.populate(t.Context(), v, img, "/data", false); err != nil {
				t.Error(err)
			}
			if n := len(names(v.Mountpoint)); n != len(files) {
				t.Errorf("%d files of %d", n, len(files))
			}
			var st unix.Stat_t
			if err := unix.Stat(v.Mountpoint+"/49", &st); err != nil || st.Size != 10049 {
				t.Error(st.Size, err)
			}
			inodes[i] = st.Ino
		})
	}
	wg.Wait()
	for _, ino := range inodes {
		if ino != inodes[0] {
			t.Error("copied more than once:", inodes)
		}
	}
}

// TestVolumeCopyInterrupted: a copy ends with its context, and leaves an empty volume.
func TestVolumeCopyInterrupted(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil, map[string]string{"data/a": "1"})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	c, err := h.Create(ctx, Config{Image: "full", Files: FilesConfig{Mounts: []MountSpec{{Type: MountVolume, Source: "v1", Target: "/data"}, {Type: MountVolume, Target: "/x"}}}}, Fetch{})
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Fatal(c, err)
	}
	if got := content(t, h.volumeData("v1")); got != "" {
		t.Error(got)
	}
	if got := names(h.volumes()); !slices.Equal(got, []string{"v1"}) {
		t.Error("left:", got)
	}
}

// TestVolumesAnonymous: an anonymous volume is made with its container, and goes with it when asked to, unless another
// container uses it.
func TestVolumesAnonymous(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", []string{"/data", "/asked/", "rel"}, map[string]string{"data/a": "1"})
	c := volumeContainer(t, h, "full", "/own", "named:/asked")
	var targets []string
	for _, m := range c.Mounts {
		targets = append(targets, m.Target)
	}
	if !slices.Equal(targets, []string{"/own", "/asked", "/data", "/rel"}) || len(c.Volumes) != 3 {
		t.Fatal(targets, c.Volumes)
	}
	data := c.Mounts[2].Source
	if v, err := h.Volume(data); err != nil || !v.Anonymous() || content(t, v.Mountpoint) != "a=1" {
		t.Fatal(v, err)
	}
	if err := os.WriteFile(h.volumeData(data)+"/a", []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it outlives a run
		finish(t, c)
		var err error
		if c, err = h.Find(c.ID); err != nil {
			t.Fatal(err)
		}
		if c.image, err = h.Images.Lookup("full"); err != nil {
			t.Fatal(err)
		}
		if err := c.takeLock(); err != nil {
			t.Fatal(err)
		}
	}
	if content(t, h.volumeData(data)) != "a=kept" {
		t.Error("changed by a start")
	}
	c.unlock()

	other, err := h.Create(t.Context(), Config{Image: "full", Files: FilesConfig{VolumesFrom: []string{ShortID(c.ID) + ":ro"}}}, Fetch{})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.save(); err != nil {
		t.Fatal(err)
	}
	other.Close()
	if len(other.Volumes) != 3 || other.Mounts[2].Source != data || !other.Mounts[2].ReadOnly || len(other.Mounts) != 4 {
		t.Errorf("%+v %q", other.Mounts, other.Volumes)
	}
	if err := h.RemoveVolume(data); err == nil || !strings.Contains(err.Error(), "volume is in use - [") {
		t.Error(err)
	}
	if err := c.Remove(RemoveOptions{Volumes: true}); err != nil || len(names(h.volumes())) != 4 {
		t.Error(err, names(h.volumes()))
	}
	if err := other.Remove(RemoveOptions{Volumes: true}); err != nil || !slices.Equal(names(h.volumes()), []string{"named"}) {
		t.Error(err, names(h.volumes()))
	}

	kept := volumeContainer(t, h, "full")
	finish(t, kept)
	if err := kept.Remove(RemoveOptions{}); err != nil || len(names(h.volumes())) != 4 {
		t.Error(err, names(h.volumes()))
	}
	names, _, err := h.PruneVolumes((*Volume).Anonymous)
	if err != nil || len(names) != 3 {
		t.Error(names, err)
	}
	rm := volumeContainer(t, h, "full")
	rm.Config.Lifetime.Remove = true
	finish(t, rm)
	if list, err := h.Volumes(); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}

func TestImageVolumes(t *testing.T) {
	config := &v1.Config{Volumes: map[string]struct{}{"/b": {}, "a/x/": {}, "/a/./x": {}, "/": {}, "/proc": {}, "../sys/fs": {}, "/dev/shm": {}, "/x\x00": {}, "/procs": {}}}
	targets, refused := imageVolumes(config)
	if !slices.Equal(targets, []string{"/a/x", "/b", "/procs"}) || !slices.Equal(refused, []string{"../sys/fs", "/", "/dev/shm", "/proc", "/x\x00"}) {
		t.Errorf("%q, not %q", targets, refused)
	}
}

// TestVolumeRemoveRace removes a volume again and again while containers with it are being made: a container that is
// there has its volume.
func TestVolumeRemoveRace(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil, map[string]string{"data/a": "1"})
	stop := make(chan struct{})
	var removed int
	var remover, makers sync.WaitGroup
	remover.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := h.RemoveVolume("v1"); err == nil {
				removed++
			} else if !errors.Is(err, ErrNotFound) && !strings.Contains(err.Error(), "in use") {
				t.Error(err)
			}
		}
	})
	for range 4 {
		makers.Go(func() {
			for range 10 {
				c, err := h.Create(context.Background(), Config{Image: "full", Files: FilesConfig{Mounts: []MountSpec{{Type: MountVolume, Source: "v1", Target: "/data"}}}}, Fetch{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := c.save(); err != nil {
					t.Error(err)
				}
				c.Close()
				if got := content(t, h.volumeData("v1")); got != "a=1" {
					t.Errorf("%q", got)
				}
				if err := c.Remove(RemoveOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	close(stop)
	remover.Wait()
	if removed == 0 {
		t.Error("never removed")
	}
}

// TestVolumeBeingUsed: a volume whose container is not written down yet is in use; others can be removed meanwhile.
func TestVolumeBeingUsed(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", []string{"/data"}, nil)
	for _, name := range []string{"mine", "other"} {
		if _, err := h.CreateVolume(VolumeConfig{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	c := volumeContainer(t, h, "full", "mine:/x")
	if err := h.RemoveVolume("mine"); err == nil || !strings.Contains(err.Error(), "in use - by a container that is being created") {
		t.Error(err)
	}
	if err := h.RemoveVolume("other"); err != nil {
		t.Error(err)
	}
	if names, _, err := h.PruneVolumes(func(*Volume) bool { return true }); err != nil || len(names) > 0 {
		t.Error(names, err)
	}
	c.Close() // without having been written down
	if err := h.RemoveVolume("mine"); err != nil {
		t.Error(err)
	}
}

// TestVolumeWrittenDown writes a container down while somebody who removes its volume is between two looks at the
// containers: a pipe in the place of another one's state holds them there.
func TestVolumeWrittenDown(t *testing.T) {
	for name, remove := range map[string]func(*Host){
		"remove":    func(h *Host) { _ = h.RemoveVolume("mine") },
		"prune":     func(h *Host) { _, _, _ = h.PruneVolumes(func(*Volume) bool { return true }) },
		"container": func(h *Host) { h.removeVolumes("gone", []string{"mine"}) },
	} {
		t.Run(name, func(t *testing.T) {
			h := volumeHost(t)
			addImage(t, h, "full", nil, nil)
			c := volumeContainer(t, h, "full", "mine:/x")
			removed, goOn := heldInList(t, h, func() { remove(h) })
			if err := c.save(); err != nil {
				t.Error(err)
			}
			c.Close()
			goOn()
			<-removed
			if _, err := h.Volume("mine"); err != nil {
				t.Error("a container has lost its volume:", err)
			}
		})
	}
}

// TestVolumeKilled kills hulls that make volumes and fill them, at any moment. The next one finds everything in order.
func TestVolumeKilled(t *testing.T) {
	h := volumeHost(t)
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("data/%d/%03d", i%7, i)] = strings.Repeat("x", 1000)
	}
	addImage(t, h, "full", []string{"/anonymous"}, files)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 12 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), verbEnv+"=hull", "ROOT="+h.Root, `CONFIG={"Image":"full","Lifetime":{"Remove":true},"Files":{"Mounts":[`+
			`{"Type":"volume","Target":"/data/1"},{"Type":"volume","Source":"v1","Target":"/data"}]},"Process":{"Entrypoint":["/hull"],"Env":["`+verbEnv+`=exit","CODE=0"]}}`)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		c := volumeContainer(t, h, "full", "v1:/data")
		if n := strings.Count(content(t, h.volumeData("v1")), "=1000 bytes"); n != len(files) {
			t.Errorf("%d files of %d", n, len(files))
		}
		c.Close()
		if err := c.Remove(RemoveOptions{Volumes: true}); err != nil {
			t.Error(err)
		}
		for _, id := range names(h.containers()) { // a sweep leaves alone what was made this second
			_ = os.Chtimes(filepath.Join(h.containers(), id), time.Unix(0, 0), time.Unix(0, 0))
		}
		h.Sweep()
		if got := names(h.volumes()); !slices.Equal(got, []string{"v1"}) {
			t.Errorf("left: %q", got)
		}
		if got := append(names(h.containers()), names(filepath.Join(h.Root, "tmp"))...); len(got) > 0 {
			t.Errorf("left: %q", got)
		}
		if err := h.RemoveVolume("v1"); err != nil {
			t.Error(err)
		}
	}
}

func TestVolumeStore(t *testing.T) {
	h := volumeHost(t)
	if list, err := h.Volumes(); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if _, err := h.Volume("data"); !errors.Is(err, ErrNotFound) || err.Error() != "get data: no such volume" {
		t.Error(err)
	}
	if err := h.RemoveVolume("data"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	v, err := h.CreateVolume(VolumeConfig{Name: "data", Labels: map[string]string{"a": "b"}})
	if err != nil || v.Mountpoint != filepath.Join(h.Root, "volumes/data/_data") || !exists(v.Mountpoint) || v.Anonymous() || time.Since(v.CreatedAt) > time.Minute {
		t.Error(v, err)
	}
	if again, err := h.CreateVolume(VolumeConfig{Name: "data"}); err != nil || again.Labels["a"] != "b" {
		t.Error(again, err)
	}
	if anonymous, err := h.CreateVolume(VolumeConfig{}); err != nil || len(anonymous.Name) != 64 || !anonymous.Anonymous() {
		t.Error(anonymous, err)
	}
	var wg sync.WaitGroup
	for range 8 { // one makes it, all have it
		wg.Go(func() {
			if v, err := h.CreateVolume(VolumeConfig{Name: "many"}); err != nil || v.Name != "many" {
				t.Error(v, err)
			}
		})
	}
	wg.Wait()
	for _, name := range []string{"data", "many"} {
		if err := h.RemoveVolume(name); err != nil || exists(h.volumeDir(name)) {
			t.Error(err)
		}
	}
	if _, err := h.CreateVolume(VolumeConfig{Name: "broken"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.volumeDir("broken"), volumeFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if told := flaws(t, h, false); len(told) != 1 || !strings.HasPrefix(told[0], "volume broken: ") {
		t.Error(told)
	}
	if v, err := h.CreateVolume(VolumeConfig{Name: "broken"}); err == nil {
		t.Error(v)
	}
	if err := h.RemoveVolume("broken"); err != nil {
		t.Error(err)
	}
	for _, bad := range []VolumeConfig{
		{Name: "../x"}, {Name: "x"}, {Name: "ok", Driver: "nfs"}, {Name: "ok", Options: map[string]string{"a": "b"}},
		{Name: "ok", Options: map[string]string{"o": "bind", "device": "rel"}}, {Name: "ok", Options: map[string]string{"type": "nfs"}},
		{Name: "ok", Options: map[string]string{"size": "1g"}}, {Name: "ok", Options: map[string]string{"type": "none", "device": "/x"}},
	} {
		if v, err := h.CreateVolume(bad); err == nil {
			t.Errorf("%+v: %+v", bad, v)
		}
	}
	if left := names(filepath.Join(h.Root, "tmp")); len(left) > 0 {
		t.Error(left)
	}
}
