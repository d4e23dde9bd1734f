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
	_, err := b.output(p, p.env(), argv...)
	return err
}

func (b *bench) output(p person, env []string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = env, p.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, lastLines(string(out)))
	}
	return string(out), nil
}

func (b *bench) crunStart(p person) (contestant, error) {
	c := contestant{name: p.title("crun"), env: p.env(), cred: p.cred}
	bundle, crun, err := b.crunBundle(p, "bundle", "true")
	if err != nil {
		return c, err
	}
	c.dir = bundle
	c.argv = func(i int) []string { return append(crun[:len(crun):len(crun)], "run", fmt.Sprintf("bench-%d", i)) }
	return c, nil
}

// crunBundle prepares a bundle: crun's own default specification with the root file system unpacked, as in its tests. It
// gives the folder, and crun with the settings that it needs.
func (b *bench) crunBundle(p person, name string, args ...string) (bundle string, crun []string, err error) {
	if _, err := exec.LookPath("crun"); err != nil {
		return "", nil, errors.New("not installed")
	}
	lower, err := b.rootfs(p)
	if err != nil {
		return "", nil, err
	}
	bundle = filepath.Join(p.home, name)
	if err := b.as(p, "mkdir", bundle); err != nil {
		return "", nil, err
	}
	spec := []string{"sh", "-c", `cd "$0" && exec crun spec "$@"`, bundle}
	crun = []string{"crun", "--root", p.home + "/crun"}
	if p.name == "user" {
		spec = append(spec, "--rootless")
		crun = append(crun, "--cgroup-manager=disabled")
	}
	if err := b.as(p, spec...); err != nil {
		return "", nil, err
	}
	return bundle, crun, editSpec(filepath.Join(bundle, "config.json"), lower, args)
}

func editSpec(path, rootfs string, args []string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, args
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

// dockerd starts a daemon of our own, without bridge or firewall rules, if there is none yet.
func (b *bench) dockerd() error {
	if b.docker != "" {
		return nil
	}
	if err := needDocker(); err != nil {
		return err
	}
	dir := filepath.Join(b.work, "docker")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	fmt.Println("Setting: dockerd in our namespaces, without bridge and firewall.")
	server, err := b.startDocker(dir, noNetwork...)
	if server != nil {
		running = append(running, server)
	}
	if err == nil {
		b.docker = dockerSocket(dir)
	}
	return err
}

func dockerSocket(dir string) string { return "unix://" + dir + "/sock" }

// noNetwork are a daemon's flags for not touching the network.
var noNetwork = []string{"--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"}

// startDocker starts a daemon that keeps everything in dir, and waits until it answers.
func (b *bench) startDocker(dir string, flags ...string) (*exec.Cmd, error) {
	server, err := b.server(filepath.Base(dir), append([]string{"dockerd", "--data-root", dir + "/data", "--exec-root", dir + "/exec", "--pidfile", dir + "/pid",
		"-H", dockerSocket(dir), "--cgroup-parent", "/hull-bench", "--insecure-registry", b.registry}, flags...)...)
	if err != nil {
		return nil, err
	}
	for range 100 {
		if err = exec.Command(dockerCLI(), "-H", dockerSocket(dir), "version").Run(); err == nil {
			return server, nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return server, fmt.Errorf("dockerd does not answer: %w", err)
}

// needDocker says what is missing for a daemon.
func needDocker() error {
	if os.Getuid() != 0 {
		return errors.New("its daemon needs root")
	}
	for _, tool := range []string{"dockerd", "docker"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed", tool)
		}
	}
	return nil
}

// dockerCLI prefers the client of the daemon's own package: a newer one elsewhere in PATH may do more than it must.
func dockerCLI() string {
	if _, err := os.Stat("/usr/bin/docker"); err == nil {
		return "/usr/bin/docker"
	}
	return "docker"
}
