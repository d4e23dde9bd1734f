package run

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// keys lists the keys of a JSON object in their order.
func keys(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
	}
	return strings.Join(names, " ")
}

func TestDocumentKeys(t *testing.T) {
	const want = "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform " +
		"MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings"
	if got := keys(t, Document{}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	const state = "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt"
	if got := keys(t, DocState{}); got != state {
		t.Errorf("got  %s\nwant %s", got, state)
	}
}

// noTime is Docker's word for a time that has not come.
const noTime = "0001-01-01T00:00:00Z"

func TestDescribe(t *testing.T) {
	image := &v1.ConfigFile{Config: v1.Config{
		Env: []string{"PATH=/bin", "A=image"}, Cmd: []string{"serve"}, Entrypoint: []string{"/entry"}, User: "web", WorkingDir: "/srv",
		Labels: map[string]string{"from": "image", "both": "image"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "QUIT",
		Volumes: map[string]struct{}{"/image": {}},
	}}
	s := &State{
		ID: strings.Repeat("ab", 32), Name: "web", Created: time.Unix(0, 0), ImageID: "sha256:1", Args: []string{"/entry", "x"},
		Status: Exited, ExitCode: 3, OOMKilled: true,
		Config: Config{
			Image: "web", Args: []string{"x"}, Labels: map[string]string{"both": "user"},
			Process: ProcessConfig{Env: []string{"A=user", "B=1"}, TTY: true, Interactive: true, Init: true},
			Files: FilesConfig{ReadOnly: true, Mounts: []MountSpec{
				{Type: MountBind, Source: "/a", Target: "/b", ReadOnly: true, Relabel: "z"},
				{Type: MountVolume, Source: "data", Target: "/data"},
				{Type: MountTmpfs, Target: "/run", Options: []string{"nosuid"}},
				{Type: MountVolume, Target: "/var", NoCopy: true},
				{Type: MountVolume, Source: "data", Target: "/data2", NoCopy: true, ReadOnly: true},
				{Type: MountVolume, Source: "data", Target: "/data3", Long: true},
				{Type: MountTmpfs, Target: "/tmp", Long: true},
			}, VolumesFrom: []string{"other:ro"}},
			Network: NetworkConfig{Expose: []string{"90/udp"}, AddHost: []HostEntry{{"db", "::1"}}},
			Limits: LimitsConfig{NanoCPUs: 5e8, Ulimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 1<<64 - 1}}, OOMScoreAdj: ptr(-5),
				ReadBps:   []DeviceRate{{"/dev/sda", 9}},
				Resources: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}, Pids: &specs.LinuxPids{Limit: ptr(int64(7))}}},
			Isolation: IsolationConfig{CapDrop: []string{"ALL"}, Security: SecurityOpts{NoNewPrivileges: true, Seccomp: "unconfined"}},
			Lifetime:  LifetimeConfig{Remove: true},
		},
	}
	if err := s.Config.Complete(); err != nil {
		t.Fatal(err)
	}
	s.Volumes = []string{"anonymous"}
	s.Mounts = slices.DeleteFunc(slices.Clone(s.Config.Files.Mounts), func(m MountSpec) bool { return m.Target == "/var" })
	s.Mounts = append(s.Mounts, MountSpec{Type: MountVolume, Source: "anonymous", Target: "/var"})
	d := Describe(s, image)
	for _, row := range []struct {
		name      string
		got, want any
	}{
		{"Name", d.Name, "/web"},
		{"Path", d.Path, "/entry"}, {"Args", d.Args, []string{"x"}},
		{"State", d.State, DocState{Status: "exited", ExitCode: 3, OOMKilled: true, StartedAt: noTime, FinishedAt: noTime}},
		{"Config.Env", d.Config.Env, []string{"PATH=/bin", "A=user", "B=1"}},
		{"Config.Cmd", d.Config.Cmd, []string{"x"}}, {"Config.Entrypoint", d.Config.Entrypoint, []string{"/entry"}},
		{"Config.User", d.Config.User, "web"}, {"Config.WorkingDir", d.Config.WorkingDir, "/srv"},
		{"Config.Hostname", d.Config.Hostname, "abababababab"},
		{"Config.Labels", d.Config.Labels, map[string]string{"from": "image", "both": "user"}},
		{"Config.ExposedPorts", d.Config.ExposedPorts, map[string]struct{}{"80/tcp": {}, "90/udp": {}}},
		{"Config.StopSignal", d.Config.StopSignal, "QUIT"},
		{"Config.AttachStdin", d.Config.AttachStdin, true},
		{"HostConfig.Binds", d.HostConfig.Binds, []string{"/a:/b:ro,z", "data:/data", "data:/data2:ro,nocopy"}},
		{"HostConfig.Mounts", d.HostConfig.Mounts, []DocLongMount{{"volume", "data", "/data3", false}, {"tmpfs", "", "/tmp", false}}},
		{"HostConfig.VolumesFrom", d.HostConfig.VolumesFrom, []string{"other:ro"}},
		{"Config.Volumes", d.Config.Volumes, map[string]struct{}{"/image": {}, "/var": {}}},
		{"HostConfig.Tmpfs", d.HostConfig.Tmpfs, map[string]string{"/run": "nosuid"}},
		{"HostConfig.NetworkMode", d.HostConfig.NetworkMode, "none"},
		{"HostConfig.Memory", d.HostConfig.Memory, int64(64 << 20)}, {"HostConfig.MemorySwap", d.HostConfig.MemorySwap, int64(128 << 20)},
		{"HostConfig.NanoCPUs", d.HostConfig.NanoCPUs, int64(5e8)}, {"HostConfig.CPUQuota", d.HostConfig.CPUQuota, int64(0)},
		{"HostConfig.Ulimits", d.HostConfig.Ulimits, []DocUlimit{{"nofile", -1, 5}}},
		{"HostConfig.SecurityOpt", d.HostConfig.SecurityOpt, []string{"no-new-privileges", "seccomp=unconfined"}},
		{"HostConfig.RestartPolicy", d.HostConfig.RestartPolicy, DocRestartPolicy{"no", 0}},
		{"HostConfig.ShmSize", d.HostConfig.ShmSize, int64(64 << 20)},
		{"HostConfig.ExtraHosts", d.HostConfig.ExtraHosts, []string{"db:::1"}},
		{"HostConfig.BlkioDeviceReadBps", d.HostConfig.BlkioDeviceReadBps, []DocRate{{"/dev/sda", 9}}},
		{"Mounts", d.Mounts, []DocMount{
			{Type: "bind", Source: "/a", Destination: "/b", Mode: "ro,z", Propagation: "rprivate"},
			{Type: "volume", Name: "data", Destination: "/data", Driver: "local", Mode: "z", RW: true},
			{Type: "volume", Name: "data", Destination: "/data2", Driver: "local", Mode: "ro"},
			{Type: "volume", Name: "data", Destination: "/data3", Driver: "local", Mode: "z", RW: true},
			{Type: "tmpfs", Destination: "/tmp", RW: true},
			{Type: "volume", Name: "anonymous", Destination: "/var", Driver: "local", RW: true},
		}},
	} {
		if diff := cmp.Diff(row.want, row.got); diff != "" {
			t.Errorf("%s: %s", row.name, diff)
		}
	}
	if d := Describe(s, nil); d.Config.User != "" || d.Config.Labels == nil {
		t.Error("without the image's configuration:", d.Config)
	}
}
