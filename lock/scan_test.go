package lock

import (
	"fmt"
	"strings"
	"testing"
)

// show is what was found, a line each: "3 busybox:1" or "3 ! why".
func show(uses []Use) string {
	var b strings.Builder
	for _, u := range uses {
		if u.Why != "" {
			u.Image = "! " + u.Why
		}
		fmt.Fprintf(&b, "%d %s\n", u.Line, u.Image)
	}
	return b.String()
}

func TestScanDockerfile(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"plain", "FROM busybox\n", "1 busybox\n"},
		{"platform and alias", "FROM --platform=$BUILDPLATFORM golang:1.26 AS Build\nFROM build\nFROM scratch\n", "1 golang:1.26\n"},
		{"alias in another case", "from a as B\nfrom b\ncopy --from=B x y\n", "1 a\n"},
		{"arg", "ARG V=3.20\nARG BASE=alpine:$V\nFROM ${BASE}\nFROM \"debian:${D:-12}\"\n", "3 alpine:3.20\n4 debian:12\n"},
		{"arg without default", "ARG V\nFROM alpine:$V\n", "2 ! alpine:$V: the variable V has no default in the file\n"},
		{"arg of a stage", "FROM a\nARG V=1\nFROM b:${V}\n", "1 a\n3 ! b:${V}: the variable V has no default in the file\n"},
		{"alternative", "ARG X=1\nFROM a${X:+b}${Y:+c}\n", "2 ab\n"},
		{"digest", "FROM x/y@sha256:0\n", "1 x/y@sha256:0\n"},
		{"copy", "FROM a\nCOPY --chown=1 --from=tools:2 /x /\nCOPY --from=0 /y /\nCOPY --from=7 /y /\n", "1 a\n2 tools:2\n4 7\n"},
		{"mount", "FROM a\nRUN --mount=type=bind,from=tools:3,target=/t --mount=type=cache,target=/c make --mount=from=no\n", "1 a\n2 tools:3\n"},
		{"onbuild", "FROM a\nONBUILD COPY --from=b /x /\n", "1 a\n2 b\n"},
		{"continued", "# syntax=x\n\nFROM \\\n# between\n  --platform=linux/arm64 \\\n  a:1\nRUN echo \\\nFROM no\n", "3 a:1\n"},
		{"escape", "# escape=`\nFROM `\n a\nRUN dir c:\\\nFROM b\n", "2 a\n5 b\n"},
		{"escape that is late", "FROM a\n# escape=`\nRUN x \\\nFROM no\n", "1 a\n"},
		{"here-document", "FROM a\nRUN <<EOF cat <<-'END'\nFROM no\nEOF\nFROM no\n\tEND\nFROM b\n", "1 a\n7 b\n"},
		{"windows line ends", "FROM a\r\nRUN x \\\r\n y\r\nFROM b\r\n", "1 a\n4 b\n"},
		{"nothing", "FROM\nCOPY\nARG\n# FROM x", ""},
	} {
		if got := show(ScanDockerfile(test.text)); got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, test.want)
		}
	}
}

func TestScanCompose(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"plain", "services:\n  a:\n    image: x:1\n  b:\n    image: y # no\n", "3 x:1\n5 y\n"},
		{"quotes", "image: 'x:1'\nimage: \"y:2\" # no\n\"image\": z\n", "1 x:1\n2 y:2\n3 z\n"},
		{"defaults", "image: ${R:-docker.io}/x:${T-1}\nimage: $N\nimage: a:${T:?must}\n",
			"1 docker.io/x:1\n2 ! $N: the variable N has no default in the file, and no value in .env\n3 ! a:${T:?must}: the variable T has no default in the file, and no value in .env\n"},
		{".env", "image: r/$ENV\nimage: ${ENV:-no}\nimage: ${NIL:-y}\nimage: ${NIL-y}\nimage: a${NIL}\n", "1 r/x:1\n2 x:1\n3 y\n4 ! ${NIL-y}: the name is empty\n5 a\n"},
		{"default in a default", "image: ${A:-${B:-x:1}}\n", "1 x:1\n"},
		{"dollars", "image: a$$b\n", "1 a$b\n"},
		{"built", "services:\n  a:\n    build: .\n    image: mine\n  b:\n    image: mine2\n    ports:\n      - 1\n    build:\n      context: .\n  c:\n    image: x\n", "12 x\n"},
		{"list", "- image: a\n  build: no\n- name: x\n  image: b\n-   image: c\n", "4 b\n5 c\n"},
		{"anchors", "a: &a\n  image: &i x:1\nb:\n  image: *i\nc:\n  image: !!str y\n", "2 x:1\n6 y\n"},
		{"braces", "services: {a: {b: 1}}\na: {image: x, ports: [1, 2]}\nb: { build: ., image: y }\nc: {image: \"${T:-z}\"}\n", "2 x\n4 z\n"},
		{"block", "run: |\n  image: no\n\n  image: no\nimage: a\nx:\n  - >-\n    image: no\n  - b\n  - |2\n      image: no\nimage: c\n", "5 a\n12 c\n"},
		{"map behind it", "image:\n  repository: x\n", ""},
		{"comment", "# image: x\n#image: y\nimage: #x\n", ""},
		{"other keys", "myimage: x\nimage_name: y\nimage:z\n", ""},
	} {
		if got := show(ScanCompose(test.text, map[string]string{"ENV": "x:1", "NIL": ""})); got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, test.want)
		}
	}
}

func TestScanShell(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"plain", "docker run x\n  podman pull y;/usr/bin/hull create z\n", "1 run x\n2 pull y\n2 create z\n"},
		{"quotes", `docker run -e "A=b c" 'x:1' "a\"b" c\ d` + "\n", "1 run -e|A=b c|x:1|a\"b|c d\n"},
		{"continued", "a\ndocker run \\\n  -v x \\\n  img\ndocker ps\n", "2 run -v x img\n5 ps\n"},
		{"starters", "A=1 B=\"$(x)\" docker run a\nsudo -u me docker run b\nif ! docker run c; then exec docker run d; fi\nenv X=y timeout 5 docker run e\n",
			"1 run a\n2 run b\n3 run c\n3 run d\n4 run e\n"},
		{"not called", "echo docker run x\ngit clone docker\nsay 'docker run y'\n# docker run z\n: # docker run z\nmydocker run x\n", ""},
		{"operators", "a&&docker run b||docker run c|docker run d & docker run e\n(docker run f)\n{ docker run g; }\n", "1 run b\n1 run c\n1 run d\n1 run e\n2 run f\n3 run g\n"},
		{"substitution", "X=$(docker run a)\nY=\"$( docker create b )\"\necho `docker run c` \"`docker run d`\"\ncat <(docker run e)\n", "1 run a\n2 create b\n3 run c\n3 run d\n4 run e\n"},
		{"substitution inside", "docker run $(docker create a) \"${X:-y}\" $Z $((1+2))\n", "1 create a\n1 run $(…) ${X:-y} $Z $((…))\n"},
		{"redirections", "docker run x >out 2>&1 <in\ndocker 2>/dev/null run y\n", "1 run x\n2 run y\n"},
		{"here-documents", "cat <<EOF; docker run a\ndocker run no\nEOF\ndocker run b <<-'X' arg\n\tdocker run no\n\tX\ndocker run c <<<word\n", "1 run a\n4 run b arg\n7 run c\n"},
		{"case", "case $1 in\n run|go) docker run a ;;\nesac\n", "2 run a\n"},
		{"lines", "x='\n\n'\ny=\"\n\"\ndocker run a\n", "6 run a\n"},
		{"no end", "docker run 'a", "1 run a\n"},
		{"no end either", "docker run $(", "1 run $(…)\n"},
	} {
		var b strings.Builder
		for _, c := range ScanShell(test.text) {
			sep := " "
			if test.name == "quotes" && len(c.Words) > 0 {
				fmt.Fprintf(&b, "%d %s %s\n", c.Line, c.Words[0], strings.Join(c.Words[1:], "|"))
				continue
			}
			fmt.Fprintf(&b, "%d %s\n", c.Line, strings.Join(c.Words, sep))
		}
		if got := b.String(); got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, test.want)
		}
	}
}

func TestKindOf(t *testing.T) {
	for _, test := range []struct {
		path, text string
		want       Kind
	}{
		{"compose.yaml", "", Compose}, {"x/a.yml", "FROM x", Compose}, {"Dockerfile", "", Dockerfile}, {"Dockerfile.dev", "", Dockerfile},
		{"web.dockerfile", "", Dockerfile}, {"Containerfile", "", Dockerfile}, {"a.sh", "FROM x", Shell}, {"dockerfile.sh", "", Shell},
		{"ci", "#!/bin/bash\nFROM", Shell}, {"ci", "# c\n\nARG A=1\nFROM x", Dockerfile}, {"ci", "docker run x", Shell}, {"ci", "", Shell},
	} {
		if got := KindOf(test.path, test.text); got != test.want {
			t.Errorf("%s %q: %v, want %v", test.path, test.text, got, test.want)
		}
	}
}

// FuzzScan: whatever stands in a file, scanners come to an end, name lines that exist, and find no name in what is empty.
func FuzzScan(f *testing.F) {
	f.Add("FROM ${A:-b} AS c\nRUN <<EOF\nx\nEOF\n")
	f.Add("a: &x {image: \"${B-c}\", build: .}\nb: |\n  x\n- - image: y\n")
	f.Add("docker run $(docker create \"`x`\") <<E <(y) 2>&1\nE\n${z}")
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		for _, u := range append(ScanDockerfile(text), ScanCompose(text, map[string]string{"A": ""})...) {
			if u.Line < 1 || u.Line > lines || (u.Image == "") == (u.Why == "") {
				t.Errorf("%+v of %d lines", u, lines)
			}
		}
		for _, c := range ScanShell(text) {
			if c.Line < 1 || c.Line > lines {
				t.Errorf("%+v of %d lines", c, lines)
			}
		}
	})
}
