package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// copyOrder is what a volume is to be filled with, in the words that a helper process takes.
type copyOrder struct {
	// Dirs are the layers of an image, topmost first, and Path the directory in it.
	Dirs []string
	Path string
	// Data is the directory to fill, if it is empty. In Work, a directory of the same file system, the copy is made first.
	Data, Work string
	// Name tells this volume's copies in Work from others'.
	Name  string
	OneID bool
	// Volatile is for a volume that no power cut survives anyway.
	Volatile bool
}

// populate copies what the image has at target into a volume that is empty, as Docker does. Whoever comes second waits
// for the first, and a copy that was cut short is made again. volatile says that the volume goes with its container.
func (h *Host) populate(ctx context.Context, v *Volume, img *layers.Image, target string, volatile bool) error {
	order, err := h.copyOrder(v)
	if err != nil || order.Data == "" {
		return err
	}
	order.Dirs, order.Path, order.Volatile = h.Images.Dirs(img), target, volatile
	lock, err := h.lockCopy(v, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an old one, not fresh
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if !order.needed() {
		return nil
	}
	return h.fill(ctx, order, lock)
}

// copyOrder is an order without an image: what is left of an earlier one is brought to its end. One without Data is for
// a file system that nobody has mounted yet.
func (h *Host) copyOrder(v *Volume) (*copyOrder, error) {
	source, err := parseVolumeOptions(v.Options)
	if err != nil || source.kind != "" && source.kind != "bind" {
		return &copyOrder{}, err
	}
	order := &copyOrder{Data: v.Mountpoint, Work: h.volumeDir(v.Name), Name: v.Name, OneID: h.Images.OneID}
	if source.kind == "bind" {
		order.Data, order.Work = source.device, source.device
	}
	return order, nil
}

// lockCopy keeps others from copying to the volume. The directory has another lock, see holdVolumes.
func (h *Host) lockCopy(v *Volume, how int) (*os.File, error) {
	f, err := os.Open(filepath.Join(h.volumeDir(v.Name), volumeFile))
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|how); err != nil {
		f.Close()
		return nil, errLocked
	}
	return f, nil
}

// leftCopies looks for copies that were cut short, and volumes that nobody can use.
func (h *Host) leftCopies() (list []problem, err error) {
	names, err := entries(h.volumes())
	for _, name := range names {
		v, err := h.Volume(name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			list = append(list, problem{fmt.Sprintf("volume %s: %v", name, err), nil})
		}
		if err != nil {
			continue
		}
		order, err := h.copyOrder(v)
		if err != nil || !order.left() {
			continue
		}
		list = append(list, problem{"volume " + name + ": what an image has in its place was not copied to the end", func() error {
			lock, err := h.lockCopy(v, unix.LOCK_NB)
			if errors.Is(err, errLocked) {
				return nil // somebody is at it
			}
			if err != nil {
				return err
			}
			defer lock.Close()
			return h.fill(context.Background(), order, lock)
		}})
	}
	return list, err
}

// left says whether there is something of an earlier copy.
func (o *copyOrder) left() bool {
	for _, name := range []string{o.half(), o.whole()} {
		if _, err := os.Lstat(filepath.Join(o.Work, name)); err == nil {
			return true
		}
	}
	return false
}

// needed says whether there may be something to do: an empty volume and a directory in the image, or what is left of
// a copy. Where the caller may not look, it says so too.
func (o *copyOrder) needed() bool {
	if o.left() {
		return true
	}
	names, err := readNames(o.Data)
	if errors.Is(err, fs.ErrPermission) {
		return false // somebody else's by now, so it was copied to, or used
	}
	if err != nil || len(names) > 0 {
		return err != nil
	}
	f, err := layers.OpenFile(o.Dirs, o.Path)
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	defer f.Close()
	st, err := f.Stat()
	return err == nil && st.IsDir()
}

// The names of a copy: while it is being made, and once it is whole and its entries are being moved to the volume.
func (o *copyOrder) half() string  { return ".hull-copying-" + o.Name }
func (o *copyOrder) whole() string { return ".hull-copied-" + o.Name }

// fill makes the copy. The caller has locked the volume.
//
// The volume's directory itself stays, for a container that does not want the copy may have it mounted already. So a
// copy is made beside it, gets another name when it is whole, and then its entries move, one by one. Whoever finds a
// copy that is not whole makes it again; whoever finds a whole one goes on moving.
func (o *copyOrder) fill(ctx context.Context) error {
	data, err := os.Open(o.Data)
	if err != nil {
		return err
	}
	defer data.Close()
	work, err := os.OpenRoot(o.Work)
	if err != nil {
		return err
	}
	defer work.Close()
	if err := work.RemoveAll(o.half()); err != nil {
		return err
	}
	if _, err := work.Lstat(o.whole()); errors.Is(err, fs.ErrNotExist) {
		done, err := o.copy(ctx, work, data)
		if !done || err != nil {
			return errors.Join(err, work.RemoveAll(o.half()))
		}
	}
	return o.move(work, data)
}

// copy makes a whole copy, if the volume is empty and the image has something.
func (o *copyOrder) copy(ctx context.Context, work *os.Root, data *os.File) (done bool, err error) {
	if names, err := data.Readdirnames(-1); err != nil || len(names) > 0 {
		return false, err
	}
	if err := work.Mkdir(o.half(), 0o700); err != nil {
		return false, err
	}
	to, err := work.Open(o.half())
	if err != nil {
		return false, err
	}
	defer to.Close()
	err = layers.CopyDir(ctx, o.Dirs, o.Path, to, layers.CopyOptions{OneID: o.OneID})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// All of it is on the disk before it counts as whole. One call for many files: see layers.Store.Add.
	if !o.Volatile {
		if err := unix.Syncfs(int(to.Fd())); err != nil {
			return false, os.NewSyscallError("syncfs", err)
		}
	}
	return true, work.Rename(o.half(), o.whole())
}

// move moves what is in the whole copy to the volume, and gives that its attributes last. What a program in a container
// has put there meanwhile stays.
func (o *copyOrder) move(work *os.Root, data *os.File) error {
	from, err := work.Open(o.whole())
	if err != nil {
		return err
	}
	defer from.Close()
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unix.Renameat2(int(from.Fd()), name, int(data.Fd()), name, unix.RENAME_NOREPLACE)
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("move %q: %w", name, err)
		}
	}
	if err := layers.CopyAttributes(from, data, layers.CopyOptions{OneID: o.OneID}); err != nil {
		return err
	}
	return work.RemoveAll(o.whole())
}

// fill fills a volume, by way of a helper where that may give files to the caller's subordinate ids. It holds the lock
// too, so that nobody comes near a helper that has outlived us for a moment.
func (h *Host) fill(ctx context.Context, order *copyOrder, lock *os.File) error {
	if h.Images.Unpacker == nil {
		return order.fill(ctx)
	}
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	cmd, err := h.helper("copy", string(text))
	if err != nil {
		return err
	}
	cmd.Stdin = lock
	letGo := func() {}
	cmd.Attach = func(pid int) error {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return os.NewSyscallError("pidfd_open", err)
		}
		kept := context.AfterFunc(ctx, func() { _ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) })
		letGo = func() {
			if kept() {
				unix.Close(fd)
			}
		}
		return nil
	}
	defer func() { letGo() }()
	if _, err = runHelper(cmd, nil); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
