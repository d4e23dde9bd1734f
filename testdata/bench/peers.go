package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What podman 4 needs where the hard limits may not be raised, cgroups are not systemd's and the registry is plain http.
const containersConf = `[containers]
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
`

// as runs a command as p, untimed.
func (b *bench) as(p person, argv ...string) error {
	_, err := b.output(p, argv...)
	return err
}

func (b *bench) output(p person, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = p.env(), p.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, lastLines(string(out)))
	}
	return string(out), nil
}

// crunStart prepares a bundle: crun's own default specification with the root file system unpacked, as in its tests.
func (b *bench) crunStart(p person) (contestant, error) {
	c := contestant{name: p.title("crun"), env: p.env(), cred: p.cred}
	if _, err := exec.LookPath("crun"); err != nil {
		return c, errors.New("not installed")
	}
	lower, err := b.rootfs(p)
	if err != nil {
		return c, err
	}
	bundle := filepath.Join(p.home, "bundle")
	if err := b.as(p, "mkdir", bundle); err != nil {
		return c, err
	}
	spec := []string{"sh", "-c", `cd "$0" && exec crun spec "$@"`, bundle}
	run := []string{"crun", "--root", p.home + "/crun"}
	if p.name == "user" {
		spec = append(spec, "--rootless")
		run = append(run, "--cgroup-manager=disabled")
	}
	if err := b.as(p, spec...); err != nil {
		return c, err
	}
	if err := editSpec(filepath.Join(bundle, "config.json"), lower); err != nil {
		return c, err
	}
	c.dir = bundle
	c.argv = func(i int) []string { return append(run[:len(run):len(run)], "run", fmt.Sprintf("bench-%d", i)) }
	return c, nil
}

func editSpec(path, rootfs string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, []string{"true"}
	delete(process, "rlimits") // its default raises the hard limit
	spec["root"] = map[string]any{"path": rootfs}
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// podman returns the command with the settings that it needs here, below the given store.
func (b *bench) podman(store string) []string {
	return []string{"env", "CONTAINERS_CONF=" + b.work + "/containers.conf", "CONTAINERS_REGISTRIES_CONF=" + b.work + "/registries.conf",
		"podman", "--root", store + "/root", "--runroot", store + "/run", "--tmpdir", store + "/tmp", "--runtime", "crun"}
}

func (b *bench) podmanSettings() error {
	if err := os.WriteFile(filepath.Join(b.work, "containers.conf"), []byte(containersConf), 0o644); err != nil {
		return err
	}
	text := fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", b.registry)
	return os.WriteFile(filepath.Join(b.work, "registries.conf"), []byte(text), 0o644)
}

func (b *bench) podmanStart(p person) (contestant, error) {
	c := contestant{name: p.title("podman"), env: p.env(), cred: p.cred, dir: p.home}
	for _, tool := range []string{"podman", "crun"} {
		if _, err := exec.LookPath(tool); err != nil {
			return c, fmt.Errorf("%s is not installed", tool)
		}
	}
	if err := b.podmanSettings(); err != nil {
		return c, err
	}
	podman := b.podman(p.home + "/podman")
	if err := b.as(p, append(podman, "pull", "-q", b.registry+"/busybox")...); err != nil {
		return c, err
	}
	// The environment goes with the contestant, so that no env is executed on the way.
	c.env = append(c.env, podman[1:3]...)
	c.argv = fixed(append(podman[3:], "run", "--rm", "--network", "none", b.registry+"/busybox", "true")...)
	return c, nil
}

// dockerd starts a daemon of our own, without bridge or firewall rules, if there is none yet.
func (b *bench) dockerd() error {
	if b.docker != "" {
		return nil
	}
	if os.Getuid() != 0 {
		return errors.New("its daemon needs root")
	}
	for _, tool := range []string{"dockerd", "docker"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed", tool)
		}
	}
	dir := filepath.Join(b.work, "docker")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	socket := "unix://" + dir + "/sock"
	fmt.Println("Setting: dockerd in our namespaces, without bridge and firewall.")
	if err := b.daemon("dockerd", "dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "-H", socket,
		"--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--insecure-registry", b.registry); err != nil {
		return err
	}
	var err error
	for range 100 {
		if err = exec.Command(dockerCLI(), "-H", socket, "version").Run(); err == nil {
			b.docker = socket
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return fmt.Errorf("dockerd does not answer: %w", err)
}

// dockerCLI prefers the client of the daemon's own package: a newer one elsewhere in PATH may do more than it must.
func dockerCLI() string {
	if _, err := os.Stat("/usr/bin/docker"); err == nil {
		return "/usr/bin/docker"
	}
	return "docker"
}

func (b *bench) dockerStart(p person) (contestant, error) {
	if p.name != "root" {
		return contestant{}, nil // its client would only ask the same daemon
	}
	c := contestant{name: "docker", env: p.env(), dir: p.home}
	if err := b.dockerd(); err != nil {
		return c, err
	}
	docker := []string{dockerCLI(), "-H", b.docker}
	if err := b.as(p, append(docker, "pull", "-q", b.registry+"/busybox")...); err != nil {
		return c, err
	}
	c.argv = fixed(append(docker, "run", "--rm", "--network", "none", b.registry+"/busybox", "true")...)
	return c, nil
}
