package registry

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/hullrun/hull/internal/decompress"
	"github.com/hullrun/hull/internal/given"
)

const (
	// maxLinks bounds the links followed inside an archive; docker save made one for a layer that occurs twice.
	maxLinks = 8
	// maxFiles and maxNames bound what is remembered of the files in an archive: how many there are, and how many bytes their
	// names and links have. Somebody's whole store has some thousands, with names of some hundred bytes at the most.
	maxFiles = 250_000
	maxNames = 32 << 20
)

// tarFiles gives random access to the files in a tar, by an index of where each begins. It is an fs.FS as far as this
// package needs one: Open and Stat of regular files.
type tarFiles struct {
	r       io.ReaderAt
	entries map[string]tarEntry
}

// tarEntry is what is remembered of a file; a header has ten times as much.
type tarEntry struct {
	offset, size int64
	kind         byte
	link         string
}

// openTar indexes the tar in a file. One that is compressed, or that is no regular file (a pipe), is first copied.
func openTar(name string) (fs.FS, func() error, error) {
	f, err := given.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return openTarFile(f, "")
}

// openTarFile is openTar for a file that is open, which it takes over. A copy is made in the directory spool.
func openTarFile(f *os.File, spool string) (fs.FS, func() error, error) {
	f, err := seekable(f, spool)
	if err != nil {
		return nil, nil, err
	}
	files := &tarFiles{r: f, entries: map[string]tarEntry{}}
	if err := files.index(f); err != nil {
		f.Close()
		return nil, nil, err
	}
	return files, f.Close, nil
}

// seekable returns f, or a temporary file with what f unpacks to, and closes f then.
func seekable(f *os.File, dir string) (*os.File, error) {
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	head := make([]byte, decompress.HeadSize)
	n, _ := io.ReadFull(f, head)
	if decompress.Kind(head[:n]) == "" && fi.Mode().IsRegular() {
		_, err := f.Seek(0, io.SeekStart)
		return f, err
	}
	defer f.Close()
	r, err := unpacked(io.MultiReader(bytes.NewReader(head[:n]), f))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return spool(dir, r)
}

// spool copies r to a file in dir ("" for $TMPDIR) that has no name any more, so that nothing stays behind however hull ends.
func spool(dir string, r io.Reader) (*os.File, error) {
	tmp, err := os.CreateTemp(dir, "hull-archive-*")
	if err != nil {
		return nil, err
	}
	os.Remove(tmp.Name())
	if _, err = io.CopyBuffer(struct{ io.Writer }{tmp}, r, make([]byte, bufferSize)); err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
	}
	if err != nil {
		tmp.Close()
		return nil, fmt.Errorf("unpack archive: %w", err)
	}
	return tmp, nil
}

// index finds the files in f.
func (t *tarFiles) index(f *os.File) error {
	r := tar.NewReader(f)
	for files, names := 1, 0; ; files++ {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return problemf(ErrCorrupt, "read tar: %w", err)
		}
		if files > maxFiles {
			return problemf(ErrUnsupported, "the archive has more than %d files, the limit", maxFiles)
		}
		if names += len(h.Name) + len(h.Linkname); names > maxNames {
			return problemf(ErrUnsupported, "the archive's names have more than %d bytes, the limit", maxNames)
		}
		if h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.major"] != "" {
			return problemf(ErrCorrupt, "%s is sparse, which image archives never are", h.Name)
		}
		// archive/tar reads whole blocks and seeks past data, so after Next the file stands where the data begins.
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		t.entries[path.Clean(strings.TrimPrefix(h.Name, "/"))] = tarEntry{offset, h.Size, h.Typeflag, h.Linkname}
	}
}

// Open opens a file by its cleaned name, following the links that docker save put for layers that occur twice.
func (t *tarFiles) Open(name string) (fs.File, error) {
	at := path.Clean(name)
	for range maxLinks {
		e, ok := t.entries[at]
		if !ok {
			break
		}
		switch e.kind {
		case tar.TypeSymlink:
			at = path.Join(path.Dir(at), e.link)
		case tar.TypeLink:
			at = path.Clean(strings.TrimPrefix(e.link, "/"))
		default:
			return &tarFile{io.NewSectionReader(t.r, e.offset, e.size), tar.Header{Name: at, Typeflag: e.kind, Size: e.size}}, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

type tarFile struct {
	*io.SectionReader
	header tar.Header
}

func (f *tarFile) Stat() (fs.FileInfo, error) { return f.header.FileInfo(), nil }
func (f *tarFile) Close() error               { return nil }
