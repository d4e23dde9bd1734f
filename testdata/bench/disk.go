package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// diskSize is what a disk of a run's own may come to hold, in bytes; the file behind it is as big as what is on it.
const diskSize = 8 << 30

// fresh gives a run an empty folder on an ext4 of its own, and what removes both. ext4 passes over each inode that was freed
// in the last minutes when it looks for one (recently_deleted in fs/ext4/ialloc.c), so that on a common file system whoever
// comes later is slowed down by what was removed before. Without loop devices, or as an ordinary user, the folder is on
// the common one.
func (b *bench) fresh(p person, dir string) (remover func()) {
	if err := os.Mkdir(dir, 0o711); err != nil {
		fmt.Printf("  make a folder: %v\n", err)
	}
	if b.noDisk == nil {
		if b.noDisk = b.mountDisk(dir); b.noDisk != nil {
			fmt.Printf("Setting: all pulls on one file system, which slows down the later ones (%v).\n", b.noDisk)
		}
	}
	_ = os.Chown(dir, p.uid, -1)
	if b.noDisk != nil {
		return func() { remove(dir) }
	}
	return func() {
		unmountBelow(dir)
		if err := unix.Unmount(dir, 0); err != nil {
			fmt.Printf("  unmount %s: %v\n", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
		_ = os.Remove(dir)
		_ = os.Remove(diskFile(dir))
	}
}

func diskFile(dir string) string { return dir + ".ext4" }

func (b *bench) mountDisk(dir string) error {
	file := diskFile(dir)
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(diskSize); err != nil {
		return err
	}
	// Not lazily: the kernel would fill the inode tables in during the run.
	if _, err := system("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", file); err != nil {
		return err
	}
	device, err := system("losetup", "--find", "--show", "--direct-io=on", file)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, dir, "ext4", 0, ""); err != nil {
		err = fmt.Errorf("mount %s: %w", device, err)
		_, _ = system("losetup", "--detach", device)
		return err
	}
	_, err = system("losetup", "--detach", device) // as soon as it is unmounted, however that comes
	return err
}

// system runs a program of the system's and gives what it prints.
func system(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, lastLines(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}
