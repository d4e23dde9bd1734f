package run

import (
	"encoding/json"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// changeBase is what the changes below are applied to.
func changeBase() v1.Config {
	return v1.Config{Env: []string{"PATH=/bin", "A=old", "EMPTY="}, Cmd: []string{"was"}, Entrypoint: []string{"entry"}, WorkingDir: "/work"}
}

func TestChangeConfig(t *testing.T) {
	tests := []struct {
		changes string // several are separated by |
		want    string // what of the configuration is another afterwards, as JSON, or a part of the error
	}{
		{`CMD echo hi`, `{"Cmd":["/bin/sh","-c","echo hi"]}`},
		{`cmd ["echo", "a b"]`, `{"Cmd":["echo","a b"]}`},
		{`CMD [ -f x ] && echo $A`, `{"Cmd":["/bin/sh","-c","[ -f x ] && echo $A"]}`},
		{`ENTRYPOINT ["/e"]`, `{"Entrypoint":["/e"],"Cmd":null}`},
		{`CMD x|ENTRYPOINT /e x`, `{"Cmd":["/bin/sh","-c","x"],"Entrypoint":["/bin/sh","-c","/e x"]}`},
		{`ENTRYPOINT []`, `{"Cmd":null,"Entrypoint":null}`},
		{`ENV B=1 C="two words" D=a\ b`, `{"Env":["PATH=/bin","A=old","EMPTY=","B=1","C=two words","D=a b"]}`},
		{`ENV A=new B=$A`, `{"Env":["PATH=/bin","A=new","EMPTY=","B=old"]}`},
		{`ENV B rest of the line`, `{"Env":["PATH=/bin","A=old","EMPTY=","B=rest of the line"]}`},
		{`ENV PATH=$PATH:/x|ENV B=${PATH}`, `{"Env":["PATH=/bin:/x","A=old","EMPTY=","B=/bin:/x"]}`},
		{`ENV B='$A' C="$A" D=\$A E=$ F=$1`, `{"Env":["PATH=/bin","A=old","EMPTY=","B=$A","C=old","D=$A","E=$","F=$1"]}`},
		{`ENV B=${X:-d} C=${EMPTY:-d} D=${EMPTY-d} E=${A:+d} F=${X:+d} G=${EMPTY+d}`,
			`{"Env":["PATH=/bin","A=old","EMPTY=","B=d","C=d","D=","E=d","F=","G=d"]}`},
		{`ENV B=${X:-${Y:-$A}}`, `{"Env":["PATH=/bin","A=old","EMPTY=","B=old"]}`},
		{`ENV B="a\"b" C="a\nb"`, `{"Env":["PATH=/bin","A=old","EMPTY=","B=a\"b","C=a\\nb"]}`},
		{`LABEL a=b "c d"="e f"`, `{"Labels":{"a":"b","c d":"e f"}}`},
		{"LABEL a=b \\\n c=d\n# no\nUSER 5", `{"Labels":{"a":"b","c":"d"},"User":"5"}`},
		{`EXPOSE 80 90/udp 100-102/tcp`, `{"ExposedPorts":{"80/tcp":{},"90/udp":{},"100/tcp":{},"101/tcp":{},"102/tcp":{}}}`},
		{`VOLUME /a /b|VOLUME ["/c d"]`, `{"Volumes":{"/a":{},"/b":{},"/c d":{}}}`},
		{`WORKDIR sub|WORKDIR ../x`, `{"WorkingDir":"/work/x"}`},
		{`WORKDIR /abs/$A/`, `{"WorkingDir":"/abs/old"}`},
		{`USER $A:g`, `{"User":"old:g"}`},
		{`ONBUILD RUN make $X`, `{"OnBuild":["RUN make $X"]}`},
		{`STOPSIGNAL SIGQUIT`, `{"StopSignal":"SIGQUIT"}`},
		{`HEALTHCHECK NONE`, `{"Healthcheck":{"Test":["NONE"]}}`},
		{`HEALTHCHECK --interval=5s --retries=2 CMD curl x && exit 1`, `{"Healthcheck":{"Test":["CMD-SHELL","curl x && exit 1"],"Interval":5000000000,"Retries":2}}`},
		{`HEALTHCHECK CMD ["/probe"]`, `{"Healthcheck":{"Test":["CMD","/probe"]}}`},
		{``, `{}`},

		{`FROM x`, "from is not a valid change command"},
		{`RUN x`, "run is not a valid change command"},
		{`WORKDIR`, "WORKDIR requires at least one argument"},
		{`ENV A`, "want NAME=VALUE"},
		{`ENV A=1 B`, "want NAME=VALUE"},
		{`ENV =1`, "can not be blank"},
		{`ENV A="x`, "matching double-quote"},
		{`ENV A='x`, "matching single-quote"},
		{`ENV A=${B`, "unsupported modifier"},
		{`ENV A=${B:-x`, "missing '}'"},
		{`ENV A=${B:?must be set}`, "must be set"},
		{`ENV A=${}`, "bad substitution"},
		{`EXPOSE x`, `expose "x"`},
		{`EXPOSE 99999`, `expose "99999"`},
		{`VOLUME ""`, "empty string"},
		{`ONBUILD ONBUILD RUN x`, "chaining"},
		{`ONBUILD FROM x`, "isn't allowed"},
		{`STOPSIGNAL x`, "Invalid signal"},
		{`HEALTHCHECK RUN x`, "want NONE"},
		{`HEALTHCHECK --bogus=1 NONE`, "unknown flag"},
		{`HEALTHCHECK --interval=x NONE`, "want a duration"},
	}
	for _, test := range tests {
		t.Run(test.changes, func(t *testing.T) {
			got := changeBase()
			if err := changeConfig(&got, strings.Split(test.changes, "|")); err != nil {
				if strings.HasPrefix(test.want, "{") || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %s", err, test.want)
				}
				return
			}
			want := changeBase()
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatalf("no error, want %s", test.want)
			}
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(want)
			if string(a) != string(b) {
				t.Errorf("got  %s\nwant %s", a, b)
			}
		})
	}
}

// FuzzChange: whatever is typed, what comes out is a configuration that can be kept.
func FuzzChange(f *testing.F) {
	for _, seed := range []string{
		`ENV A=1 B="two" C='x' D=\ e ${F:-$G}`, "LABEL a b\nEXPOSE 1-3/udp", `VOLUME ["/a"] `, `HEALTHCHECK --retries=1 CMD ["a"]`, `ONBUILD x`,
		`WORKDIR ../..`, "CMD \\\n x", `USER "`, `ENV A=${B:?${C:-"}"}}`, `STOPSIGNAL 9`, "ENV \t=\\", `EXPOSE $A-$B`, "\r\n#\v ENTRYPOINT []",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, change string) {
		config := changeBase()
		if changeConfig(&config, []string{change}) != nil {
			return
		}
		if !strings.HasPrefix(config.WorkingDir, "/") {
			t.Errorf("working directory %q", config.WorkingDir)
		}
		for _, kv := range config.Env {
			if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
				t.Errorf("variable %q", kv)
			}
		}
		for port := range config.ExposedPorts {
			if again, err := ParseExpose(port); err != nil || again != port {
				t.Errorf("port %q: %v", port, err)
			}
		}
	})
}
