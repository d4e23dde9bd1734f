package run

import (
	"bytes"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzImageConfig feeds what an image may say of itself through all that reads it before a program starts: the outcome is an
// error or a specification in which the image decides about its own program only.
func FuzzImageConfig(f *testing.F) {
	for _, s := range []string{
		`{"config":{"Cmd":["sh"]}}`, `{}`, `null`, `[]`, `{"config":null}`,
		`{"config":{"Env":["A=b","=","","PATH","PATH=","A\u0000=x"],"Entrypoint":[""],"Cmd":null,"WorkingDir":"../../proc/self/fd/8"}}`,
		`{"config":{"Cmd":["sh"],"Volumes":{"/../../etc":{},"":{},"/proc":{},"a":{}},"StopSignal":"SIGKILL+1","User":"4294967296:-1"}}`,
		`{"config":{"Cmd":["sh"],"Healthcheck":{"Test":["CMD-SHELL","x"],"Interval":-1,"Timeout":9223372036854775807,"Retries":-5}}}`,
		`{"config":{"Cmd":["sh"],"ExposedPorts":{"0/x":{},"99999":{}},"Labels":{"":""},"Shell":[]},"rootfs":{"type":"layers","diff_ids":[null]}}`,
		`{"architecture":"\u0000","os":"../linux","config":{"Cmd":["a\u0000b"],"Hostname":"a b","Domainname":"\n"},"created":"0000-00-00T00:00:00Z"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		image, err := v1.ParseConfigFile(bytes.NewReader(raw))
		if err != nil {
			return
		}
		targets, _ := imageVolumes(&image.Config)
		for _, v := range targets {
			if !strings.HasPrefix(v, "/") || v == "/" || strings.Contains(v, "/../") || strings.HasPrefix(v+"/", "/proc/") {
				t.Errorf("volume %q", v)
			}
		}
		w := World{ID: strings.Repeat("a1", 32), Dir: "/c", Root: specs.Mount{Destination: "/", Type: "overlay"}}
		spec, err := Spec(&Config{}, image, w)
		if err != nil {
			return
		}
		if p := spec.Process; len(p.Args) == 0 || !strings.HasPrefix(p.Cwd, "/") {
			t.Errorf("arguments %q, working directory %q", p.Args, p.Cwd)
		}
		plain, err := Spec(&Config{Args: []string{"x"}}, &v1.ConfigFile{}, w)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := brief(spec.Mounts), brief(plain.Mounts); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("mounts %q, want %q", got, want)
		}
	})
}
