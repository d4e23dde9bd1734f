package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

var running []*exec.Cmd // daemons, in the order of their start

// server starts one whose talk goes to a file named after it.
func (b *bench) server(name string, argv ...string) (*exec.Cmd, error) {
	log, err := os.Create(filepath.Join(b.work, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, cmd.Start()
}

// end ends a server and waits for that.
func end(server *exec.Cmd) {
	_ = server.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = server.Process.Kill() })
	defer late.Stop()
	_ = server.Wait()
}

// serve starts a registry on loopback whose content stays in the cache: docker-registry, or else hull's own.
func (b *bench) serve() error {
	server, host, err := b.registryIn("registry", filepath.Join(b.cache, "registry"), filepath.Join(b.cache, "hull-registry-2"))
	if server != nil {
		running = append(running, server)
	}
	b.registry = host
	return err
}

// registryIn starts a registry, docker-registry with its files in one folder or else hull's with them in another, and gives
// its HOST:PORT when it answers.
func (b *bench) registryIn(name, docker, hull string) (server *exec.Cmd, host string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	host = l.Addr().String()
	l.Close()
	if _, err := exec.LookPath("docker-registry"); err == nil {
		server, err = b.dockerRegistry(name, host, docker)
		if err != nil {
			return server, "", err
		}
	} else if b.hull != "" {
		if server, err = b.server(name, b.hull, "registry", "serve", "--addr", host, hull); err != nil {
			return server, "", err
		}
	} else {
		return nil, "", errors.New("start a registry: neither docker-registry nor bin/hull is there")
	}
	for range 100 {
		if r, err := http.Get("http://" + host + "/v2/"); err == nil {
			r.Body.Close()
			return server, host, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(b.work, name+".log"))
	return server, "", fmt.Errorf("the registry does not answer: %s", lastLines(string(log)))
}

func (b *bench) dockerRegistry(name, host, dir string) (*exec.Cmd, error) {
	config := filepath.Join(b.work, name+".yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, host)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return b.server(name, "docker-registry", "serve", config)
}

// compileFloor builds the C program, statically.
func (b *bench) compileFloor() error {
	out := filepath.Join(b.work, "floor.linked")
	for _, cc := range []string{"gcc", "cc"} {
		if _, err := exec.LookPath(cc); err != nil {
			continue
		}
		text, err := exec.Command(cc, "-O2", "-static", "-s", "-o", out, "testdata/bench/floor/floor.c").CombinedOutput()
		if err == nil {
			b.floor = filepath.Join(b.work, "floor")
			return copyProgram(b.floor, out)
		}
		fmt.Printf("%s cannot compile floor/floor.c: %s\n", cc, lastLines(string(text)))
	}
	b.miss("floor: no C compiler that links statically (gcc and libc6-dev)")
	return nil
}
