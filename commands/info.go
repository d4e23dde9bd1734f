package commands

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/hullrun/hull/run"
)

// infoDocument is what info shows: the host's side, as Docker's engine would tell it, and the client's.
type infoDocument struct {
	run.Info
	ClientInfo struct {
		Debug   bool
		Version string
		Context string
	}
}

func infoCommand(s *session) ([]*option, action) {
	var format string
	flags := []*option{text(&format, "format,f", "FORMAT", formatUsage)}
	return flags, func(context.Context, []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		version := build().Version
		info, err := h.Info(version)
		if err != nil {
			return err
		}
		doc := infoDocument{Info: *info}
		doc.ClientInfo.Debug, doc.ClientInfo.Version, doc.ClientInfo.Context = s.debug, version, "default"
		if format != "" {
			return printOne(s.out, format, doc)
		}
		return s.print(func(w io.Writer) { printInfo(w, &doc) })
	}
}

func printInfo(w io.Writer, d *infoDocument) {
	fmt.Fprintf(w, "Client:\n Version:    %s\n Context:    %s\n Debug Mode: %t\n\nServer:\n", d.ClientInfo.Version, d.ClientInfo.Context, d.ClientInfo.Debug)
	for _, row := range []struct {
		name  string
		value any
	}{
		{"Containers", d.Containers}, {" Running", d.ContainersRunning}, {" Paused", d.ContainersPaused}, {" Stopped", d.ContainersStopped},
		{"Images", d.Images}, {"Server Version", d.ServerVersion}, {"Storage Driver", d.Driver}, {"Logging Driver", d.LoggingDriver},
		{"Cgroup Driver", d.CgroupDriver}, {"Cgroup Version", d.CgroupVersion}, {"Swarm", d.Swarm.LocalNodeState},
		{"Default Runtime", d.DefaultRuntime}, {"Security Options", strings.Join(d.SecurityOptions, " ")},
		{"Kernel Version", d.KernelVersion}, {"Operating System", d.OperatingSystem}, {"OSType", d.OSType}, {"Architecture", d.Architecture},
		{"CPUs", d.NCPU}, {"Total Memory", units.BytesSize(float64(d.MemTotal))}, {"Name", d.Name}, {"Docker Root Dir", d.DockerRootDir},
	} {
		fmt.Fprintf(w, " %s: %v\n", row.name, row.value)
	}
	for _, line := range d.Warnings {
		fmt.Fprintf(w, "WARNING: %s\n", line)
	}
}
