package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	subid "github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns"
)

// IDRange says where on the host the ids of a container begin that has some of its own (--userns=auto, as root): its 0 is UID
// and GID there, and so on, rangeSize of them. On the disk its files have the ids that they have in the container.
type IDRange struct{ UID, GID uint32 }

// rangeSize is how many ids such a container has: all that a 16-bit number can name, nobody being 65534.
const rangeSize = 1 << 16

// The ranges that hull takes where root has no subordinate ids: within what is meant for containers (systemd's UIDS-GIDS), and
// above what useradd(8) and others hand out.
const (
	ownRanges     = 0x40000000
	ownRangeCount = 4096
)

func (r *IDRange) identity() Identity {
	one := func(host uint32) []specs.LinuxIDMapping {
		return []specs.LinuxIDMapping{{ContainerID: 0, HostID: host, Size: rangeSize}}
	}
	return Identity{UserNS: true, Mapped: true, UIDs: one(r.UID), GIDs: one(r.GID)}
}

// rangePool is what can be had, given what is written in /etc/subuid and /etc/subgid: root's own ranges, or those of podman's
// user for that, else hull's, without those that belong to somebody.
func rangePool(uids, gids []subid.SubID) (pool []IDRange) {
	chunks := func(list []subid.SubID) (begin []uint32) {
		for _, s := range list {
			for at := s.SubID; (s.Name == "root" || s.Name == "0" || s.Name == "containers") && at+rangeSize <= s.SubID+s.Count && at+rangeSize <= 1<<32-2; at += rangeSize {
				begin = append(begin, uint32(at))
			}
		}
		return begin
	}
	u, g := chunks(uids), chunks(gids)
	for n := range min(len(u), len(g)) {
		pool = append(pool, IDRange{u[n], g[n]})
	}
	if len(pool) > 0 {
		return pool
	}
	taken := func(at int64, lists ...[]subid.SubID) bool {
		for _, list := range lists {
			for _, s := range list {
				if at < s.SubID+s.Count && s.SubID < at+rangeSize {
					return true
				}
			}
		}
		return false
	}
	for at := int64(ownRanges); at < ownRanges+ownRangeCount*rangeSize; at += rangeSize {
		if !taken(at, uids, gids) {
			pool = append(pool, IDRange{uint32(at), uint32(at)})
		}
	}
	return pool
}

// readSubIDs reads what belongs to whom on this machine. A file that is missing has no entry.
func readSubIDs() (uids, gids []subid.SubID) {
	uids, _ = subid.ParseSubIDFile("/etc/subuid")
	gids, _ = subid.ParseSubIDFile("/etc/subgid")
	return uids, gids
}

func uitoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func (h *Host) idRanges() string { return filepath.Join(h.Root, "ids") }

// claimIDs gives the container a range that no other one has: a link in the folder ids, named after the range, leads to its
// owner. Where it begins to look follows from the ID, so that those of another root directory are most likely others.
func (c *Container) claimIDs() error {
	alone, err := c.host.hold("ids.lock", true)
	if err != nil {
		return err
	}
	defer alone.Close()
	dir := c.host.idRanges()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	pool := rangePool(readSubIDs())
	first, _ := strconv.ParseUint(c.ID[:8], 16, 64)
	for n := range pool {
		r := pool[(first+uint64(n))%uint64(len(pool))]
		link := filepath.Join(dir, uitoa(r.UID))
		err := os.Symlink(c.ID, link)
		if errors.Is(err, fs.ErrExist) {
			if owner, _ := os.Readlink(link); owner != "" && isThere(filepath.Join(c.host.containers(), owner)) {
				continue
			}
			if err = os.Remove(link); err == nil { // its container is gone
				err = os.Symlink(c.ID, link)
			}
		}
		if err == nil {
			c.IDs = &r
		}
		return err
	}
	return fmt.Errorf("userns \"auto\": all %d ranges of ids are taken by containers", len(pool))
}

// dropIDs gives the range back, unless somebody who was killed has done so before, and another container has it now. Nobody
// takes it from one whose directory is there.
func (c *Container) dropIDs() {
	if c.IDs == nil {
		return
	}
	link := filepath.Join(c.host.idRanges(), uitoa(c.IDs.UID))
	if owner, _ := os.Readlink(link); owner == c.ID {
		_ = os.Remove(link)
	}
}

// ownIDs claims ids for a container of root's that wants some of its own. Where files cannot be shown under them, that is an
// error, or with --sandbox a warning, and the container's root has the number of the host's, without its rights.
func (c *Container) ownIDs() error {
	if c.host.rootless || c.Config.Isolation.Userns != "auto" {
		return nil
	}
	if err := c.claimIDs(); err != nil {
		return err
	}
	userns, err := c.userNamespace()
	if err == nil {
		err = ns.Mappable(userns, c.host.Root)
	}
	if err == nil {
		return nil
	}
	c.dropIDs()
	c.IDs = nil
	if !c.Config.Isolation.Sandbox {
		return fmt.Errorf("userns \"auto\": %w\nthe root directory must be on ext4, xfs, btrfs, or with Linux 6.3 tmpfs; --userns=one-id works anywhere", err)
	}
	c.host.warn("--sandbox: without ids of its own, for files cannot be shown under them: %v", err)
	return nil
}

// userNamespace is one with the container's ids, made when it is first asked for. It is closed by unlock.
func (c *Container) userNamespace() (*os.File, error) {
	if c.userns != nil {
		return c.userns, nil
	}
	id := c.IDs.identity()
	f, err := ns.UserNamespace(id.UIDs, id.GIDs)
	c.userns = f
	return f, err
}

// identity is who the container's users are on the host.
func (c *Container) identity() (Identity, error) {
	if c.IDs != nil {
		return c.IDs.identity(), nil
	}
	return c.host.identity(c.Config.Isolation.Userns, c.image.OneIDSafe && c.Config.Process.User == "")
}

// mapped is what a container with ids of its own is to be shown: hull's root directory, in which its layers and its own
// directory lie, and what s.findMounts has found beside it.
func (s *start) mapped(cmd *ns.Cmd) (err error) {
	if !s.world.Identity.Mapped {
		return nil
	}
	if cmd.IDMap, err = s.userNamespace(); err != nil {
		return err
	}
	cmd.Mapped = append([]ns.Mapped{{From: s.host.Root, At: s.host.Root}}, s.lowers...)
	return s.openPipes()
}

// openPipes lets the program open its streams again by a name such as /dev/stderr, which takes a right to the pipe itself. A
// file of the caller's keeps its owner.
func (s *start) openPipes() error {
	u, id := s.world.User, s.IDs
	for _, f := range []*os.File{s.streams.stdin, s.streams.stdout, s.streams.stderr} {
		var st unix.Statfs_t
		if f == nil || unix.Fstatfs(int(f.Fd()), &st) != nil || st.Type != unix.PIPEFS_MAGIC {
			continue
		}
		if err := f.Chown(int(id.UID+u.UID), int(id.GID+u.GID)); err != nil {
			return err
		}
	}
	return nil
}
