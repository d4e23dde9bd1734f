package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// pull measures fetching and unpacking the big image into an empty store on a fresh disk, at rest before each run.
func (b *bench) pull() error {
	img, err := b.bigImage()
	if err != nil {
		return err
	}
	p, image := b.people[0], b.registry+"/"+bigName
	cs := []contestant{b.hullPull(p, image)}
	for _, more := range []func(person, string, v1.Image) (contestant, error){b.podmanPull, b.dockerPull, b.tarPull} {
		c, err := more(p, image, img)
		if err != nil {
			b.miss("%s: %v", c.name, err)
		}
		cs = append(cs, c)
	}
	got := b.atRest(cs)
	table(cs, got, []goal{{better(got, "docker pull", "podman pull"), 0.7, 0.5}, {"curl|pigz|tar", 1.2, 1}})
	peakGoal(got["hull pull"])
	return nil
}

// atRest measures with a disk that has nothing to write when a run begins.
func (b *bench) atRest(cs []contestant) map[string]figures {
	for i := range cs {
		before := cs[i].before
		cs[i].before = func(i int) {
			before(i)
			syscall.Sync()
		}
	}
	return b.measure(able(cs), b.pulls, 0, 3*time.Second) // what was removed is still being discarded on disk
}

// peakGoal prints how much memory hull's process had, in the worst of its runs.
func peakGoal(f figures) {
	if len(f) > 0 {
		mb := f.by(peak, 1) / 1e6
		fmt.Printf("  hull's peak memory %.1f MB, must ≤ 80, aim ≤ 40: %s\n", mb, goal{"", 80, 40}.verdict(mb))
	}
}

// better is the faster of two contestants.
func better(got map[string]figures, a, b string) string {
	x, y := got[a].by(wall, 0.5), got[b].by(wall, 0.5)
	if y == 0 || x != 0 && x < y {
		return a
	}
	return b
}

// onFreshDisk gives each run of c a folder of its own.
func (b *bench) onFreshDisk(c contestant, p person, dir string) contestant {
	var remover func()
	c.before = func(int) { remover = b.fresh(p, dir) }
	c.after = func(int) { remover() }
	return c
}

func (b *bench) hullPull(p person, image string) contestant {
	return b.hullFresh(p, "pull", "-q", image)
}

func (b *bench) podmanPull(p person, image string, _ v1.Image) (contestant, error) {
	return b.podmanFresh(p, "pull", "-q", image)
}

func (b *bench) dockerPull(p person, image string, _ v1.Image) (contestant, error) {
	return b.dockerFresh(p, "pull", "-q", image)
}

// hullFresh is a command with an empty store on a disk of its own. Its name is hull's and the command's first word.
func (b *bench) hullFresh(p person, words ...string) contestant {
	c := contestant{name: "hull " + words[0], env: p.env(), cred: p.cred, dir: p.home}
	if b.hull == "" {
		return c
	}
	dir := filepath.Join(p.home, "disk-h")
	c.argv = fixed(append([]string{b.hull, "--root", dir + "/store"}, words...)...)
	return b.onFreshDisk(c, p, dir)
}

// podmanFresh likewise.
func (b *bench) podmanFresh(p person, words ...string) (contestant, error) {
	c := contestant{name: "podman " + words[0], env: p.env(), cred: p.cred, dir: p.home}
	if _, err := exec.LookPath("podman"); err != nil {
		return c, errors.New("not installed")
	}
	dir := filepath.Join(p.home, "disk-p") // its runroot may have 50 characters at most
	podman := b.podman(dir)
	c.argv, c.env = fixed(append(podman[3:], words...)...), append(c.env, podman[1:3]...)
	return b.onFreshDisk(c, p, dir), b.podmanSettings()
}

// dockerFresh has a daemon of its own for each run, on that run's disk.
func (b *bench) dockerFresh(p person, words ...string) (contestant, error) {
	c := contestant{name: "docker " + words[0], env: p.env(), dir: p.home}
	if err := needDocker(); err != nil {
		return c, err
	}
	dir := filepath.Join(p.home, "disk-d")
	c.argv = fixed(append([]string{dockerCLI(), "-H", dockerSocket(dir)}, words...)...)
	c = b.onFreshDisk(c, p, dir)
	before, after := c.before, c.after
	var server *exec.Cmd
	c.before = func(i int) {
		before(i)
		server, _ = b.startDocker(dir, noNetwork...) // that there is none, docker will say
	}
	c.after = func(i int) {
		if server != nil {
			end(server)
		}
		after(i)
	}
	return c, nil
}

// tarPull is the same work by hand: every layer fetched, decompressed and unpacked into a folder, all at once.
func (b *bench) tarPull(p person, image string, img v1.Image) (contestant, error) {
	c := contestant{name: "curl|pigz|tar", env: p.env(), cred: p.cred, dir: p.home}
	for _, tool := range []string{"curl", "pigz", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			return c, fmt.Errorf("%s is not installed", tool)
		}
	}
	layers, err := img.Layers()
	if err != nil {
		return c, err
	}
	host, repository, _ := strings.Cut(image, "/")
	var script strings.Builder
	for n, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return c, err
		}
		fmt.Fprintf(&script, "mkdir %d; curl -sf http://%s/v2/%s/blobs/%s | pigz -dc | tar -x -C %d & ", n, host, repository, digest, n)
	}
	dir := filepath.Join(p.home, "disk-t")
	c.argv = fixed("sh", "-c", "cd '"+dir+"' && "+script.String()+"wait")
	return b.onFreshDisk(c, p, dir), nil
}

// again measures a pull that finds everything in place. A bare request for the manifest is the least it can cost.
func (b *bench) again() error {
	p, image := b.people[0], b.registry+"/busybox"
	hull, err := b.hullStart(p)
	if err != nil {
		b.miss("%s: %v", hull.name, err)
	} else if b.hull != "" {
		hull.argv = fixed(b.hull, "pull", "-q", image)
	}
	hull.name = "hull pull again"
	cs := []contestant{hull}
	if docker, err := b.dockerStart(p); err != nil {
		b.miss("%s: %v", docker.name, err)
	} else if docker.argv != nil {
		docker.name, docker.argv = "docker pull again", fixed(dockerCLI(), "-H", b.docker, "pull", "-q", image)
		cs = append(cs, docker)
	}
	if podman, err := b.podmanStart(p); err != nil {
		b.miss("%s: %v", podman.name, err)
	} else {
		podman.name, podman.argv = "podman pull again", fixed(append(b.podman(p.home + "/podman")[3:], "pull", "-q", image)...)
		cs = append(cs, podman)
	}
	if _, err := exec.LookPath("curl"); err == nil {
		accept := "Accept: application/vnd.oci.image.manifest.v1+json"
		cs = append(cs, contestant{name: "curl manifest", env: p.env(), dir: p.home,
			argv: fixed("curl", "-sf", "-H", accept, "http://"+b.registry+"/v2/busybox/manifests/latest")})
	} else {
		b.miss("curl: not installed")
	}
	table(cs, b.measure(able(cs), min(b.n, 20), 1, 10*time.Millisecond), []goal{{"docker pull again", 1, 1}, {"curl manifest", 99, 1.5}})
	return nil
}
