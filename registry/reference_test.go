package registry

import (
	"strings"
	"testing"
)

const digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestParseReference(t *testing.T) {
	for _, tt := range []struct{ in, full, familiar string }{
		{"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"},
		{"library/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"grafana/grafana:10", "docker.io/grafana/grafana:10", "grafana/grafana:10"},
		{"quay.io/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"},
		{"host:5000/x", "host:5000/x:latest", "host:5000/x:latest"},
		{"host:5000", "docker.io/library/host:5000", "host:5000"}, // no slash: a tag
		{"Host/x", "Host/x:latest", "Host/x:latest"},              // an upper-case letter makes a host
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"[fe80::1]/x", "[fe80::1]/x:latest", "[fe80::1]/x:latest"},
		{"a@" + digestA, "docker.io/library/a@" + digestA, "a@" + digestA},
		{"a:1@" + digestA, "docker.io/library/a:1@" + digestA, "a:1@" + digestA},
		{"127.0.0.1:5000/a/b__c--d.e:_T.1-x", "127.0.0.1:5000/a/b__c--d.e:_T.1-x", "127.0.0.1:5000/a/b__c--d.e:_T.1-x"},
		{"docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"},
		{"docker.io/library/localhost", "docker.io/library/localhost:latest", "localhost:latest"},
		{strings.Repeat("a", 64), "", ""},
		{strings.Repeat("a", 64) + ":x", "docker.io/library/" + strings.Repeat("a", 64) + ":x", strings.Repeat("a", 64) + ":x"},
		{strings.Repeat("g", 64), "docker.io/library/" + strings.Repeat("g", 64) + ":latest", strings.Repeat("g", 64) + ":latest"},
		{"x:" + strings.Repeat("t", 128), "docker.io/library/x:" + strings.Repeat("t", 128), "x:" + strings.Repeat("t", 128)},
		{"x:" + strings.Repeat("t", 129), "", ""},
		{"docker.io/" + strings.Repeat("a/", 127) + "a", "docker.io/" + strings.Repeat("a/", 127) + "a:latest", strings.Repeat("a/", 127) + "a:latest"},
		{"docker.io/" + strings.Repeat("a/", 127) + "aa", "", ""},
		{"", "", ""},
		{"UPPER", "", ""},
		{"a/UPPER", "", ""},
		{":tag", "", ""},
		{"a:", "", ""},
		{"a:-x", "", ""},
		{"a:.x", "", ""},
		{"a:b:c", "", ""},
		{"a@sha256:abc", "", ""},
		{"a@", "", ""},
		{"a@sha512:" + strings.Repeat("a", 128), "", ""},
		{"a@" + strings.ToUpper(digestA), "", ""},
		{"a//b", "", ""},
		{"/a", "", ""},
		{"a/", "", ""},
		{"a/../b", "", ""},
		{"../x", "", ""},
		{"a..b", "", ""},
		{"a___b", "", ""},
		{"a_-b", "", ""},
		{"-a", "", ""},
		{"a-", "", ""},
		{"a b", "", ""},
		{"a\n", "", ""},
		{"ä", "", ""},
		{"-host.x/a", "", ""},
		{"host-.x/a", "", ""},
		{"host..x/a", "", ""},
		{"host:/a", "", ""},
		{"host:0/a", "", ""},
		{"host:65536/a", "", ""},
		{"host:+80/a", "", ""},
		{"host:80:80/a", "", ""},
		{"ho_st.x/a", "", ""},
		{"[::1/a", "", ""},
		{"[]:1/a", "", ""},
		{"[::1]x/a", "", ""},
		{"[::g]:1/a", "", ""},
		{"https://docker.io/busybox", "", ""},
	} {
		ref, err := ParseReference(tt.in)
		if tt.full == "" {
			if err == nil {
				t.Errorf("ParseReference(%q) = %v, want an error", tt.in, ref)
			} else if !strings.HasPrefix(err.Error(), "parse image reference ") {
				t.Errorf("ParseReference(%q): error %q does not name the operation", tt.in, err)
			}
			continue
		}
		if err != nil || ref.String() != tt.full || ref.Familiar() != tt.familiar {
			t.Errorf("ParseReference(%q) = %v, familiar %v, %v; want %v, %v", tt.in, ref, ref.Familiar(), err, tt.full, tt.familiar)
		}
	}
}

// FuzzParseReference looks for names that are read in two ways, or that could leave a folder or an URL they are put in.
func FuzzParseReference(f *testing.F) {
	for _, seed := range []string{
		"busybox", "a/b:c@" + digestA, "[::1]:5000/x", "localhost/x", "docker.io/localhost/x", "index.docker.io/x", "A/b",
		"host:5000/a.b/c__d:e", "a..b", "../..", strings.Repeat("a", 64), "x@" + digestA, ":", "@", "/", "a:b:c", "ä/ö",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			return
		}
		for _, form := range []string{ref.String(), ref.Familiar()} {
			again, err := ParseReference(form)
			if err != nil || again != ref {
				t.Fatalf("ParseReference(%q) = %+v, but of its form %q: %+v, %v", s, ref, form, again, err)
			}
		}
		for part := range strings.SplitSeq(ref.Path, "/") {
			if part == "" || part == "." || part == ".." {
				t.Fatalf("ParseReference(%q): path %q", s, ref.Path)
			}
		}
		if strings.ContainsAny(ref.String(), " \t\n\\?#%\x00") || (ref.Tag == "" && ref.Digest == "") || ref.Domain == "" {
			t.Fatalf("ParseReference(%q) = %+v", s, ref)
		}
	})
}
