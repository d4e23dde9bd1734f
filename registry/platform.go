package registry

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ParsePlatform reads the value of --platform, OS[/ARCH[/VARIANT]] in any case: "linux/arm/v7", "linux/aarch64", and
// the short forms "linux" and "arm64", where the other half is the machine's. The common other spellings become Go's
// (x86_64 is amd64, aarch64 is arm64, armhf is arm/v7), and a variant that only says the default is left out. The rules
// are those of containerd's platforms package, which is what Docker uses.
func ParsePlatform(s string) (*v1.Platform, error) {
	p, err := parsePlatform(strings.ToLower(s))
	if err != nil {
		return nil, fmt.Errorf("parse platform %q: %w", s, err)
	}
	return p, nil
}

func parsePlatform(s string) (*v1.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) > 3 {
		return nil, fmt.Errorf("want OS[/ARCH[/VARIANT]]")
	}
	for _, part := range parts {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return nil, fmt.Errorf("want OS[/ARCH[/VARIANT]]")
		}
	}
	if len(parts) > 1 {
		p := v1.Platform{OS: parts[0], Architecture: parts[1]}
		if len(parts) == 3 {
			p.Variant = parts[2]
		}
		p = normal(p)
		return &p, nil
	}
	p := normal(v1.Platform{OS: s, Architecture: runtime.GOARCH})
	if isKnownOS(p.OS) {
		return &p, nil
	}
	p = normal(v1.Platform{OS: "linux", Architecture: s})
	if isKnownArch(p.Architecture) {
		return &p, nil
	}
	return nil, fmt.Errorf("neither an operating system nor an architecture is called so")
}

// hostPlatform is what an image is chosen for when nobody asks: Linux on this machine's architecture.
func hostPlatform() v1.Platform {
	return normal(v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// normal spells a platform in one way, so that platforms that mean the same compare equal.
func normal(p v1.Platform) v1.Platform {
	if p.OS = strings.ToLower(p.OS); p.OS == "macos" {
		p.OS = "darwin"
	}
	p.Architecture, p.Variant = strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "i386", "i486", "i586", "i686", "x86":
		p.Architecture = "386"
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64", "armv8":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "armv5", "armv6", "armv7", "armv7l", "armv6l":
		p.Architecture, p.Variant = "arm", "v"+p.Architecture[4:5]
	}
	if p.Architecture != "386" && p.Variant != "" && p.Variant[0] >= '0' && p.Variant[0] <= '9' {
		p.Variant = "v" + p.Variant
	}
	switch {
	case p.Architecture == "386":
		p.Variant = ""
	case p.Architecture == "amd64" && p.Variant == "v1", p.Architecture == "arm64" && (p.Variant == "v8" || p.Variant == "v8.0"):
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p
}

// platformDistance tells how well an image built for have runs where want is asked for: 0 is exactly that, more is an
// older variant of the same architecture, and -1 cannot run there. A v7 processor runs v6 code, not the reverse.
func platformDistance(want, have v1.Platform) int {
	want, have = normal(want), normal(have)
	if want.OS != have.OS || want.Architecture != have.Architecture {
		return -1
	}
	if want.OSVersion != "" && want.OSVersion != have.OSVersion {
		return -1
	}
	if want.Variant == have.Variant {
		return 0
	}
	var order []string // newest first
	switch want.Architecture {
	case "arm":
		order = []string{"v8", "v7", "v6", "v5"}
	case "amd64":
		order = []string{"v4", "v3", "v2", ""}
	case "arm64":
		// Docker takes the plain image when a point release is asked for, and nothing else.
		order = []string{want.Variant, ""}
	}
	w, h := slices.Index(order, want.Variant), slices.Index(order, have.Variant)
	if w < 0 || h <= w {
		return -1
	}
	return h - w
}

// isAttestation tells whether an index entry is no image but a statement about one (provenance, SBOM), which BuildKit
// marks by an impossible platform and an annotation. It is never a choice, and never shown as one.
func isAttestation(d v1.Descriptor) bool {
	if isSignature(d) {
		return true
	}
	if _, ok := d.Annotations["vnd.docker.reference.type"]; ok {
		return true
	}
	return d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// KnownPlatform tells whether a platform is one that images are made for, as far as its operating system and architecture tell.
func KnownPlatform(p v1.Platform) bool { return isKnownOS(p.OS) && isKnownArch(p.Architecture) }

func isKnownOS(s string) bool {
	switch s {
	case "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris", "illumos", "aix", "android", "plan9", "js", "wasip1":
		return true
	}
	return false
}

func isKnownArch(s string) bool {
	switch s {
	case "amd64", "arm64", "arm", "386", "ppc64le", "ppc64", "s390x", "riscv64", "mips64le", "mips64", "mipsle", "mips", "loong64", "wasm":
		return true
	}
	return false
}
