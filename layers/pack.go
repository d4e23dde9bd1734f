package layers

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// TreeOptions says how PackTree works.
type TreeOptions struct {
	// Name is what the tree is called in the tar; "." for a directory whose content alone matters.
	Name string
	// Follow follows the path if it ends in a symbolic link. Links within the tree are never followed.
	Follow bool
	// Skip is a directory that is left out, wherever in the tree it is met: one that grows as the tree is read. "" for none.
	Skip string
	// Warn takes a line about what is left out or not as it should be; nil drops it.
	Warn func(string) `json:"-"`
}

// PackTree writes a file, or a directory with all in it, as a tar. The path is looked up as somebody sees it whose root
// directory is root; nil is the caller's own root. Nothing outside that root is read, even if a program that lives in it
// moves things about meanwhile, and nothing but regular files is opened. Mount points are passed. Sockets are left out,
// for tar has none. A file that cannot be read is left out, the others follow, and the first such error is returned at
// the end.
func PackTree(ctx context.Context, w io.Writer, root *os.File, path string, opt TreeOptions) error {
	flags := unix.O_PATH
	if !opt.Follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := openIn(root, path, flags)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	f, err := holdFD(fd)
	if err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	p := newPacking(ctx, w, opt.Warn)
	var st unix.Stat_t
	if opt.Skip != "" && unix.Stat(opt.Skip, &st) == nil {
		p.left = inode{st.Dev, st.Ino}
	}
	if err := p.tree(f, strings.TrimSuffix(opt.Name, "/")); err != nil {
		return err
	}
	return errors.Join(p.finish(), p.failed)
}

// packing is a tar that is being written.
type packing struct {
	ctx context.Context
	out *bufio.Writer
	tar *tar.Writer
	// coarse cuts times to seconds, as Docker does in layers: what is finer takes a kilobyte for each file.
	coarse bool
	newest time.Time        // see [Stack]
	links  map[inode]string // the first name of each file that has several
	left   inode            // a directory that is left out
	warn   func(string)
	failed error // the first file that could not be read
	buf    []byte
}

func newPacking(ctx context.Context, w io.Writer, warn func(string)) *packing {
	out := bufio.NewWriterSize(w, 256<<10)
	if warn == nil {
		warn = func(string) {}
	}
	return &packing{ctx: ctx, out: out, tar: tar.NewWriter(out), links: make(map[inode]string), warn: warn, buf: make([]byte, 128<<10)}
}

// finish writes the end of the tar.
func (p *packing) finish() error {
	if err := p.tar.Close(); err != nil {
		return err
	}
	return p.out.Flush()
}

// tree packs a file and what is in it. It closes f: of a deep tree no more is open than one descriptor for each level.
func (p *packing) tree(f *held, name string) error {
	if f.kind() == unix.S_IFDIR && p.left == (inode{f.Dev, f.Ino}) {
		f.close()
		p.warn(fmt.Sprintf("%s: left out: it is where the copy goes", name))
		return nil
	}
	if err := p.file(f, name, nil); err != nil || f.kind() != unix.S_IFDIR {
		f.close()
		return err
	}
	names, err := readNames(f.fd)
	if err != nil {
		f.close()
		p.skip(name, err)
		return nil
	}
	defer f.close()
	slices.Sort(names)
	for _, n := range names {
		sub, err := hold(f.fd, n)
		if err == unix.ENOENT {
			continue // gone meanwhile
		}
		if err != nil {
			p.skip(name+"/"+n, err)
			continue
		}
		if err := p.tree(sub, name+"/"+n); err != nil {
			return err
		}
	}
	return nil
}

// skip notes a file that could not be read.
func (p *packing) skip(name string, err error) {
	if p.failed == nil {
		p.failed = fmt.Errorf("read %q: %w", name, err)
	}
}

// file packs one file: of a directory the entry alone. correct may change what the tar says of it.
func (p *packing) file(f *held, name string, correct func(*tar.Header)) error {
	if err := p.ctx.Err(); err != nil {
		return context.Cause(p.ctx)
	}
	h, err := p.header(f, name)
	if err != nil {
		p.skip(name, err)
		return nil
	}
	if h == nil {
		return nil
	}
	if correct != nil {
		correct(h)
	}
	several := f.Nlink > 1 && f.kind() != unix.S_IFDIR
	if first := p.links[inode{f.Dev, f.Ino}]; several && first != "" {
		h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
		return p.put(h)
	}
	content := -1
	if h.Typeflag == tar.TypeReg && h.Size > 0 {
		if content, err = f.open(unix.O_RDONLY); err != nil {
			p.skip(name, err)
			return nil
		}
		defer unix.Close(content)
	}
	if err := p.put(h); err != nil {
		return err
	}
	if several {
		p.links[inode{f.Dev, f.Ino}] = name
	}
	if content < 0 {
		return nil
	}
	return p.content(content, h)
}

// header says what the tar is to say of a file, nil if it can say nothing.
func (p *packing) header(f *held, name string) (*tar.Header, error) {
	h := &tar.Header{
		Name: name, Mode: int64(f.Mode & 0o7777), Uid: int(f.Uid), Gid: int(f.Gid), ModTime: time.Unix(f.Mtim.Unix()),
		Format: tar.FormatPAX,
	}
	if p.coarse {
		h.ModTime = h.ModTime.Truncate(time.Second)
	}
	if !p.newest.IsZero() && h.ModTime.After(p.newest) {
		h.ModTime = p.newest
	}
	switch f.kind() {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, f.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case unix.S_IFLNK:
		target, err := readlinkat(f.fd, "")
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return h, err
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
		return h, nil
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if f.kind() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(f.Rdev)), int64(unix.Minor(f.Rdev))
		return h, nil
	default:
		p.warn(fmt.Sprintf("%s: a socket, left out", name))
		return nil, nil
	}
	xattrs, err := f.xattrs()
	setXattrs(h, xattrs)
	return h, err
}

// setXattrs adds xattrs to an entry.
func setXattrs(h *tar.Header, xattrs map[string]string) {
	for name, value := range xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords[xattrPrefix+name] = value
	}
}

// put writes an entry's header.
func (p *packing) put(h *tar.Header) error {
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %q: %w", h.Name, err)
	}
	return nil
}

// content writes a file's bytes: as many as it had at first, whatever becomes of it meanwhile.
func (p *packing) content(fd int, h *tar.Header) error {
	for left := h.Size; left > 0; {
		n, err := unix.Read(fd, p.buf[:min(left, int64(len(p.buf)))])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return p.shortage(h.Name, left, err)
		}
		if _, err := p.tar.Write(p.buf[:n]); err != nil {
			return fmt.Errorf("pack %q: %w", h.Name, err)
		}
		left -= int64(n)
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
	}
	return nil
}

// shortage fills up an entry whose file has become shorter, or cannot be read further.
func (p *packing) shortage(name string, left int64, err error) error {
	if err != nil {
		p.skip(name, err)
	} else {
		p.warn(fmt.Sprintf("%s: %d bytes shorter than it was a moment ago, filled up with zeros", name, left))
	}
	clear(p.buf)
	for left > 0 {
		n, err := p.tar.Write(p.buf[:min(left, int64(len(p.buf)))])
		if err != nil {
			return fmt.Errorf("pack %q: %w", name, err)
		}
		left -= int64(n)
	}
	return nil
}
