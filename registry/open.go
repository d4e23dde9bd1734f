package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/internal/given"
)

// The places besides registries where an image may be named.
const (
	ociPrefix           = "oci:"
	ociArchivePrefix    = "oci-archive:"
	dockerArchivePrefix = "docker-archive:"
)

// IsArchive tells whether name is for [Open] and not a reference: oci:DIR[:TAG], oci-archive:FILE[:TAG] or
// docker-archive:FILE[:TAG].
func IsArchive(name string) bool {
	_, _, ok := cutKind(name)
	return ok
}

func cutKind(name string) (kind, rest string, ok bool) {
	for _, kind := range []string{ociPrefix, ociArchivePrefix, dockerArchivePrefix} {
		if rest, ok := strings.CutPrefix(name, kind); ok {
			return kind, rest, true
		}
	}
	return "", "", false
}

// Open reads an image from disk: from an OCI layout (oci:DIR), a tar of one (oci-archive:FILE), or what docker save
// writes (docker-archive:FILE). Archives may be compressed with gzip or zstd; they are then unpacked to a nameless
// temporary file (in $TMPDIR), for layers are read in any order and several at once. Every byte is verified as in a pull.
//
// A TAG, which may hold colons, is the org.opencontainers.image.ref.name of an image in the layout, or one of the
// archive's RepoTags. Without one there must be just one image (or one for several platforms). platform chooses as in
// [Client.Pull].
//
// refName is the full name the image should get here: its name in the layout if that has a slash (so names a place) or its
// RepoTag, else localhost/ and what the file or folder is called. The image reads from the file until closed is called.
func Open(name string, platform *v1.Platform) (img v1.Image, refName string, closed func() error, err error) {
	kind, rest, ok := cutKind(name)
	if !ok || rest == "" {
		return nil, "", nil, fmt.Errorf("open %q: want oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:TAG]", name)
	}
	path, tag := splitPath(rest)
	files, closed, err := openFiles(kind, path)
	if err != nil {
		return nil, "", nil, fmt.Errorf("open %q: %w", name, err)
	}
	open := openLayout
	if kind == dockerArchivePrefix {
		open = openDockerArchive
	}
	i, refName, err := open(files, tag, localName(path), platform)
	if err != nil {
		closed()
		return nil, "", nil, fmt.Errorf("open %q: %w", name, err)
	}
	return i, refName, closed, nil
}

func openFiles(kind, path string) (fs.FS, func() error, error) {
	if kind != ociPrefix {
		return openTar(path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !fi.IsDir() {
		return nil, nil, fmt.Errorf("%s is not a folder (is it an %sFILE?)", path, ociArchivePrefix)
	}
	return folder(path), func() error { return nil }, nil
}

// splitPath parts PATH[:TAG] where both may hold colons: PATH is the shortest beginning that exists, unless the whole
// does.
func splitPath(s string) (path, tag string) {
	if _, err := os.Lstat(s); err == nil {
		return s, ""
	}
	for i := range len(s) {
		if s[i] != ':' {
			continue
		}
		if _, err := os.Lstat(s[:i]); err == nil {
			return s[:i], s[i+1:]
		}
	}
	path, tag, _ = strings.Cut(s, ":")
	return path, tag
}

// localName makes a repository name of a path: "/tmp/My Image.tar.gz" is "localhost/my-image".
func localName(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	base := strings.ToLower(filepath.Base(path))
	for _, ext := range []string{".gz", ".tgz", ".zst", ".bz2", ".xz", ".tar", ".oci"} {
		base = strings.TrimSuffix(base, ext)
	}
	base = strings.Trim(strings.Map(func(r rune) rune {
		if r < 128 && isAlnum(byte(r)) {
			return r
		}
		return '-'
	}, base), "-")
	if base == "" || len(base) > maxTagLength {
		base = "image"
	}
	return "localhost/" + base
}

// fullName decides what an image is called here that its layout calls refName.
func fullName(local string, refNames ...string) string {
	for _, n := range refNames {
		if ref, err := ParseReference(n); err == nil && strings.Contains(n, "/") {
			return ref.String()
		}
	}
	for _, n := range refNames {
		if checkTag(n) == nil {
			return local + ":" + n
		}
		// "busybox:1.38" claims no place, and must not be taken for the Hub's.
		if ref, err := ParseReference("localhost/" + n); err == nil {
			return ref.String()
		}
	}
	return local + ":" + defaultTag
}

// readFile reads a document of limited size.
func readFile(files fs.FS, name string, limit int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, problemf(ErrCorrupt, "%s is not a file", name)
	}
	if fi.Size() > limit {
		return nil, problemf(ErrUnsupported, "%s has %d bytes, the limit is %d", name, fi.Size(), limit)
	}
	data := bytes.NewBuffer(make([]byte, 0, fi.Size()+bytes.MinRead)) // io.ReadAll takes some times as much
	_, err = data.ReadFrom(io.LimitReader(f, limit+1))
	if err == nil && int64(data.Len()) > limit {
		return nil, problemf(ErrUnsupported, "%s grew beyond %d bytes, the limit", name, limit)
	}
	return data.Bytes(), err
}

// folder is an fs.FS of the regular files below a folder, which somebody else may have filled: with FIFOs, say.
type folder string

// Open is [fs.FS]'s.
func (d folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := given.Regular(filepath.Join(string(d), filepath.FromSlash(name)))
	if errors.Is(err, given.ErrIrregular) {
		return nil, problemf(ErrCorrupt, "%w", err)
	}
	if err != nil {
		return nil, err // not f: a nil pointer makes no nil interface
	}
	return f, nil
}
