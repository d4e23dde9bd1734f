package commands

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Version is what the build was stamped with; main sets it. Without a stamp the module's own version stands in.
var Version string

// versionLine is the answer to hull --version, in the form of Docker's.
func versionLine() string {
	b := build()
	return "hull version " + b.Version + ", build " + b.GitCommit
}

// buildFacts is what version shows. Docker has a client and a server; hull is both, so that templates for either work.
type buildFacts struct {
	Version   string
	GitCommit string
	GoVersion string
	Os        string
	Arch      string
	BuildTime string `json:",omitempty"`
	// KernelVersion is the running kernel's, which Docker shows of its server.
	KernelVersion string `json:",omitempty"`
}

// build reads what the Go toolchain has noted in the binary.
func build() buildFacts {
	b := buildFacts{Version: Version, GitCommit: "unknown", GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.GitCommit = s.Value[:min(len(s.Value), 7)]
		case "vcs.time":
			b.BuildTime = s.Value
		}
	}
	return b
}

// buildTime keeps cli from looking for the binary's own age.
func buildTime() time.Time { return time.Unix(1, 0) }

func kernelVersion() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

func versionCommand(s *session) ([]*option, action) {
	var format string
	flags := []*option{text(&format, "format,f", "FORMAT", formatUsage)}
	return flags, func(context.Context, []string) error {
		var data struct{ Client, Server buildFacts }
		data.Client, data.Server = build(), build()
		data.Server.KernelVersion = kernelVersion()
		if format != "" {
			return printOne(s.out, format, data)
		}
		return s.print(func(w io.Writer) {
			fmt.Fprint(w, "Client:\n")
			data.Client.print(w, " ")
			fmt.Fprint(w, "\nServer:\n Engine:\n")
			data.Server.print(w, "  ")
		})
	}
}

func (b buildFacts) print(w io.Writer, indent string) {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s%-18s %s\n", indent, name+":", value)
		}
	}
	row("Version", b.Version)
	row("Go version", b.GoVersion)
	row("Git commit", b.GitCommit)
	row("Built", b.BuildTime)
	row("OS/Arch", b.Os+"/"+b.Arch)
	row("Kernel Version", b.KernelVersion)
}
