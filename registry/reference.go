package registry

import (
	"fmt"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	defaultDomain = "docker.io"
	// legacyDomain is what the Hub was called when it still had an index beside the registry; both names mean the Hub.
	legacyDomain = "index.docker.io"
	// officialPath is put before one-part names on the Hub: "busybox" is "library/busybox".
	officialPath = "library/"
	defaultTag   = "latest"
	// maxPathLength and maxTagLength are those of the distribution specification.
	maxPathLength = 255
	maxTagLength  = 128
)

// Reference names an image in a registry. The zero value names nothing; [ParseReference] makes valid ones.
type Reference struct {
	// Domain is the registry's host, with a port if one was given: "docker.io", "127.0.0.1:5000", "[::1]:5000".
	Domain string
	// Path is the repository inside the registry, lower case: "library/busybox".
	Path string
	// Tag may be empty only where Digest is not.
	Tag string
	// Digest, "sha256:" and 64 hex digits or "", wins over Tag wherever both are set.
	Digest string
}

// ParseReference reads Docker's short form, [HOST[:PORT]/]PATH[:TAG][@DIGEST], and fills in what is left out: docker.io,
// library/ and, where there is neither tag nor digest, latest. The first part is a host only if it holds a dot, a
// colon or an upper-case letter, or is localhost; so says the reference grammar of the distribution project, and so do
// all Docker tools.
func ParseReference(s string) (Reference, error) {
	ref, err := parseReference(s)
	if err != nil {
		return Reference{}, fmt.Errorf("parse image reference %q: %w", s, err)
	}
	return ref, nil
}

func parseReference(s string) (Reference, error) {
	if s == "" {
		return Reference{}, fmt.Errorf("it is empty")
	}
	// A bare image ID must never be taken for a repository on the Hub that somebody else may own.
	if isHex(s, 64) {
		return Reference{}, fmt.Errorf("64 hexadecimal digits are an image ID, not a repository")
	}
	var ref Reference
	rest, digest, hasDigest := strings.Cut(s, "@")
	ref.Domain, rest = splitDomain(rest)
	ref.Path, ref.Tag, _ = strings.Cut(rest, ":")
	if ref.Domain == defaultDomain && !strings.Contains(ref.Path, "/") {
		ref.Path = officialPath + ref.Path
	}
	if strings.Contains(rest, ":") || !hasDigest {
		if !strings.Contains(rest, ":") {
			ref.Tag = defaultTag
		}
		if err := checkTag(ref.Tag); err != nil {
			return Reference{}, err
		}
	}
	if hasDigest {
		if err := checkDigest(digest); err != nil {
			return Reference{}, err
		}
		ref.Digest = digest
	}
	if err := checkDomain(ref.Domain); err != nil {
		return Reference{}, err
	}
	return ref, checkPath(ref.Path)
}

// splitDomain cuts the host from the rest, or supplies the Hub's.
func splitDomain(s string) (domain, rest string) {
	first, after, ok := strings.Cut(s, "/")
	if !ok || !isDomainLike(first) {
		return defaultDomain, s
	}
	if first == legacyDomain {
		first = defaultDomain
	}
	return first, after
}

func isDomainLike(first string) bool {
	return first == "localhost" || strings.ContainsAny(first, ".:") || strings.ToLower(first) != first
}

// String gives the full name, which is how images are named in hull's store: "docker.io/library/busybox:latest".
func (r Reference) String() string { return r.suffix(r.Domain + "/" + r.Path) }

// Familiar gives the short name people type: "busybox:latest". ParseReference gives r back for it.
func (r Reference) Familiar() string {
	if r.Domain != defaultDomain {
		return r.String()
	}
	if short, ok := strings.CutPrefix(r.Path, officialPath); ok && !strings.Contains(short, "/") {
		return r.suffix(short)
	}
	if first, _, _ := strings.Cut(r.Path, "/"); isDomainLike(first) {
		return r.String() // "docker.io/localhost/x" without its host would name another registry
	}
	return r.suffix(r.Path)
}

func (r Reference) suffix(s string) string {
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// identifier is the last part of the manifest's URL.
func (r Reference) identifier() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

func checkDomain(s string) error {
	host, port, hasPort := s, "", false
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || strings.Trim(s[1:end], "0123456789abcdefABCDEF:") != "" || end == 1 {
			return fmt.Errorf("host %q: not an IPv6 address in brackets", s)
		}
		host, port, hasPort = "", s[end+1:], end+1 < len(s)
		if hasPort && !strings.HasPrefix(port, ":") {
			return fmt.Errorf("host %q: want [ADDRESS]:PORT", s)
		}
		port = strings.TrimPrefix(port, ":")
	} else {
		host, port, hasPort = strings.Cut(s, ":")
		if err := checkHostName(host); err != nil {
			return err
		}
	}
	if !hasPort {
		return nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("host %q: port %q is not between 1 and 65535", s, port)
	}
	return nil
}

func checkHostName(host string) error {
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("host %q: parts begin and end with a letter or digit", host)
		}
		for _, c := range []byte(label) {
			if !isAlnum(c) && c != '-' && (c < 'A' || c > 'Z') {
				return fmt.Errorf("host %q: character %q is not allowed", host, rune(c))
			}
		}
	}
	return nil
}

func checkPath(path string) error {
	if len(path) > maxPathLength {
		return fmt.Errorf("repository name has %d characters, the limit is %d", len(path), maxPathLength)
	}
	if strings.ToLower(path) != path {
		return fmt.Errorf("repository name %q must be lower case", path)
	}
	for part := range strings.SplitSeq(path, "/") {
		if !validPathPart(part) {
			return fmt.Errorf("repository name %q: part %q is not letters and digits joined by \".\", \"_\", \"__\" or dashes", path, part)
		}
	}
	return nil
}

// validPathPart tells whether s is [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, read without the regexp package because its
// compilation would be paid at every start of hull.
func validPathPart(s string) bool {
	for i := 0; ; {
		start := i
		for i < len(s) && isAlnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		sep := i
		for i < len(s) && s[i] == s[sep] {
			i++
		}
		switch n := i - sep; {
		case s[sep] == '-', s[sep] == '.' && n == 1, s[sep] == '_' && n <= 2:
		default:
			return false
		}
	}
}

// checkTag wants \w[\w.-]{0,127}.
func checkTag(tag string) error {
	if tag == "" || len(tag) > maxTagLength || tag[0] == '.' || tag[0] == '-' {
		return fmt.Errorf("tag %q must have 1 to %d characters and begin with a letter, digit or underscore", tag, maxTagLength)
	}
	for _, c := range []byte(tag) {
		if !isAlnum(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return fmt.Errorf("tag %q: character %q is not allowed", tag, rune(c))
		}
	}
	return nil
}

func checkDigest(digest string) error {
	if hex, ok := strings.CutPrefix(digest, "sha256:"); !ok || !isHex(hex, 64) {
		return fmt.Errorf("digest %q is not sha256: and 64 hexadecimal digits", digest)
	}
	_, err := v1.NewHash(digest)
	return err
}

func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
