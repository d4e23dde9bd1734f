package registry

import (
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestParsePlatform(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"linux/amd64", "linux/amd64"},
		{"Linux/AMD64", "linux/amd64"},
		{"linux/x86_64", "linux/amd64"},
		{"linux/amd64/v1", "linux/amd64"},
		{"linux/amd64/v3", "linux/amd64/v3"},
		{"linux/arm64/v8", "linux/arm64"},
		{"linux/aarch64", "linux/arm64"},
		{"linux/arm", "linux/arm/v7"},
		{"linux/arm/7", "linux/arm/v7"},
		{"linux/armhf", "linux/arm/v7"},
		{"linux/armel", "linux/arm/v6"},
		{"linux/armv6", "linux/arm/v6"},
		{"linux/i386", "linux/386"},
		{"macos/arm64", "darwin/arm64"},
		{"linux", normal(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}).String()},
		{"s390x", "linux/s390x"},
		{"arm64", "linux/arm64"},
		{"strange/mill", "strange/mill"},
		{"", ""}, {"/", ""}, {"linux/", ""}, {"a/b/c/d", ""}, {"nonsense", ""}, {"linux/a b", ""}, {"linux(10)/amd64", ""},
	} {
		p, err := ParsePlatform(tt.in)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("ParsePlatform(%q) = %v, want an error", tt.in, p)
		case tt.want != "" && (err != nil || p.String() != tt.want):
			t.Errorf("ParsePlatform(%q) = %v, %v; want %v", tt.in, p, err, tt.want)
		}
	}
}

func TestPlatformDistance(t *testing.T) {
	for _, tt := range []struct {
		want, have string
		distance   int
	}{
		{"linux/amd64", "linux/amd64", 0},
		{"linux/amd64", "linux/amd64/v1", 0},
		{"linux/amd64", "linux/amd64/v2", -1},
		{"linux/amd64/v3", "linux/amd64", 2},
		{"linux/arm64", "linux/arm64/v8", 0},
		{"linux/arm64/v9", "linux/arm64", 1},
		{"linux/arm64", "linux/arm64/v9", -1},
		{"linux/arm/v7", "linux/arm/v6", 1},
		{"linux/arm/v6", "linux/arm/v7", -1},
		{"linux/arm", "linux/arm/v7", 0},
		{"linux/arm64", "linux/arm/v7", -1},
		{"linux/amd64", "linux/386", -1},
		{"linux/amd64", "windows/amd64", -1},
		{"linux/riscv64/a", "linux/riscv64/b", -1},
	} {
		want, _ := v1.ParsePlatform(tt.want)
		have, _ := v1.ParsePlatform(tt.have)
		if got := platformDistance(*want, *have); got != tt.distance {
			t.Errorf("platformDistance(%s, %s) = %d, want %d", tt.want, tt.have, got, tt.distance)
		}
	}
}
