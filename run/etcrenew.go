package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns"
)

// renewal is a small file of a running container's that is to say something else. JSON keeps bytes as they are.
type renewal struct {
	Path    string
	Was, Is []byte
}

// renewFiles writes those small files of the running container anew that its networks have changed since before. One that
// its programs have written to, or put something else in the place of, is theirs and stays.
func (c *Container) renewFiles(ctx context.Context, before *State) error {
	old := etcFiles(before, before)
	work := &fileWork{Do: "renew", as: c.workAs()}
	for _, f := range etcFiles(&c.State, &c.State) {
		i := slices.IndexFunc(old, func(o ns.File) bool { return o.Path == f.Path })
		if i >= 0 && !bytes.Equal(old[i].Data, f.Data) {
			work.Renew = append(work.Renew, renewal{f.Path, old[i].Data, f.Data})
		}
	}
	if len(work.Renew) == 0 {
		return nil
	}
	root, err := c.processRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	return c.host.files(ctx, work, root, nil)
}

// renewOrWarn is renewFiles for what has been done already.
func (c *Container) renewOrWarn(ctx context.Context, before *State) {
	if c.Status != Running && c.Status != Paused {
		return
	}
	if err := c.renewFiles(ctx, before); err != nil && unix.Kill(c.Pid, 0) == nil {
		c.host.warn("container %s still has the names of before: %v", c.Name, err)
	}
}

// do replaces the content, below the container's root directory. Hull's file is known by having no name any more, wherever it
// was bound to (see ns.Cmd.Files).
func (r *renewal) do(root *os.File) error {
	how := unix.OpenHow{Flags: unix.O_RDWR | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(root.Fd()), r.Path, &how)
	for err == unix.EINTR || err == unix.EAGAIN {
		fd, err = unix.Openat2(int(root.Fd()), r.Path, &how)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: r.Path, Err: err}
	}
	f := os.NewFile(uintptr(fd), r.Path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 0 {
		return err
	}
	now, err := io.ReadAll(io.LimitReader(f, int64(len(r.Was))+1))
	if err != nil || !bytes.Equal(now, r.Was) {
		return err
	}
	if _, err = f.WriteAt(r.Is, 0); err == nil { // never empty: somebody may be reading
		err = f.Truncate(int64(len(r.Is)))
	}
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	return nil
}
