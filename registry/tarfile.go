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

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/hullrun/hull/internal/given"
)

// maxLinks bounds the links followed inside an archive; docker save made one for a layer that occurs twice.
const maxLinks = 8

// tarFiles gives random access to the files in a tar, by an index of where each begins. It is an fs.FS as far as this
// package needs one: Open and Stat of regular files.
type tarFiles struct {
	r       io.ReaderAt
	entries map[string]tarEntry
}

type tarEntry struct {
	header *tar.Header
	offset int64
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
		return nil, nil, problemf(ErrCorrupt, "read tar: %w", err)
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
	head := make([]byte, 4)
	n, _ := io.ReadFull(f, head)
	kind := compression(head[:n])
	if kind == "" && fi.Mode().IsRegular() {
		_, err := f.Seek(0, io.SeekStart)
		return f, err
	}
	defer f.Close()
	r, err := decompress(kind, io.MultiReader(bytes.NewReader(head[:n]), f))
	if err != nil {
		return nil, err
	}
	return spool(dir, r)
}

// compression knows gzip and zstd by their first bytes; "" is anything else.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	}
	return ""
}

func decompress(kind string, r io.Reader) (io.Reader, error) {
	switch kind {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd":
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	}
	return r, nil
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

func (t *tarFiles) index(f *os.File) error {
	r := tar.NewReader(f)
	for {
		header, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		// archive/tar reads whole blocks and seeks past data, so after Next the file stands where the data begins.
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeGNUSparse || header.PAXRecords["GNU.sparse.major"] != "" {
			return fmt.Errorf("%s is sparse, which image archives never are", header.Name)
		}
		t.entries[path.Clean(strings.TrimPrefix(header.Name, "/"))] = tarEntry{header, offset}
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
		switch e.header.Typeflag {
		case tar.TypeSymlink:
			at = path.Join(path.Dir(at), e.header.Linkname)
		case tar.TypeLink:
			at = path.Clean(strings.TrimPrefix(e.header.Linkname, "/"))
		default:
			return &tarFile{io.NewSectionReader(t.r, e.offset, e.header.Size), e.header}, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

type tarFile struct {
	*io.SectionReader
	header *tar.Header
}

func (f *tarFile) Stat() (fs.FileInfo, error) { return f.header.FileInfo(), nil }
func (f *tarFile) Close() error               { return nil }
