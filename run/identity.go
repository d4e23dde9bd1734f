package run

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	subid "github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/ns"
)

// Identity says who the container's users are on the host.
type Identity struct {
	// UserNS gives the container a user namespace with these maps.
	UserNS     bool
	UIDs, GIDs []specs.LinuxIDMapping
	// OneID says that a single id is mapped: calls that would need a second are answered as if they had worked.
	OneID bool
	// Mapped says that files are shown under these ids by mounts, and have the container's ids on the disk.
	Mapped bool
}

// subIDs are the ranges that /etc/subuid and /etc/subgid give the calling user, as long as there is a program to map
// them. If there are none, why says so.
type subIDs struct {
	uids, gids []subid.SubID
	why        error
}

func findSubIDs() (s subIDs) {
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := ns.LookMapper(program); err != nil {
			s.why = fmt.Errorf("%s is not installed (Debian package uidmap)", program)
			return s
		}
	}
	name, id := "", strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	mine := func(s subid.SubID) bool { return s.Name == id || name != "" && s.Name == name }
	if s.uids, s.why = subid.ParseSubIDFileFilter("/etc/subuid", mine); s.why == nil {
		s.gids, s.why = subid.ParseSubIDFileFilter("/etc/subgid", mine)
	}
	if s.why == nil && (len(s.uids) == 0 || len(s.gids) == 0) {
		s.why = fmt.Errorf("/etc/subuid and /etc/subgid have no range for user %s", cmp.Or(name, id))
	}
	return s
}

// rangeMap maps id 0 to the caller's own and what follows to its subordinate ids.
func rangeMap(own int, ranges []subid.SubID) []specs.LinuxIDMapping {
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(own), Size: 1}}
	next := uint32(1)
	for _, r := range ranges {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: next, HostID: uint32(r.SubID), Size: uint32(r.Count)})
		next += uint32(r.Count)
	}
	return maps
}

func oneMap(inside, outside int) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: uint32(inside), HostID: uint32(outside), Size: 1}}
}

// identity chooses the ids of a container. Root gets no user namespace unless asked. Anybody else gets a single id for
// an image that needs no other (which starts fastest), else subordinate ids, else a single id and kind lies. That is what
// auto means to them, too; root gets a range of its own for it, see IDRange.
func (h *Host) identity(userns string, oneIDSafe bool) (Identity, error) {
	mode, options, _ := strings.Cut(userns, ":")
	if !h.rootless {
		return h.rootIdentity(mode)
	}
	switch mode {
	case "keep-id":
		return keepID(options)
	case "one-id", "nomap":
		return h.oneID(), nil
	case "sub-ids", "private":
		id, err := h.ranges()
		if err != nil {
			return Identity{}, fmt.Errorf("userns %q: no subordinate ids: %w", userns, err)
		}
		return id, nil
	}
	if oneIDSafe {
		return h.oneID(), nil
	}
	if id, err := h.ranges(); err == nil {
		return id, nil
	}
	return h.oneID(), nil
}

func (h *Host) oneID() Identity {
	return Identity{UserNS: true, OneID: true, UIDs: oneMap(0, os.Geteuid()), GIDs: oneMap(0, os.Getegid())}
}

func (h *Host) ranges() (Identity, error) {
	if h.sub.why != nil {
		return Identity{}, h.sub.why
	}
	return Identity{UserNS: true, UIDs: rangeMap(os.Geteuid(), h.sub.uids), GIDs: rangeMap(os.Getegid(), h.sub.gids)}, nil
}

// keepID maps the caller to its own number, or to the one that the options name, so that files in volumes keep their
// owner and the program sees the user it runs as.
func keepID(options string) (Identity, error) {
	uid, gid := os.Geteuid(), os.Getegid()
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		n, err := strconv.Atoi(value)
		switch {
		case option == "":
		case err != nil:
			return Identity{}, fmt.Errorf("userns keep-id:%s: %w", options, err)
		case key == "uid":
			uid = n
		case key == "gid":
			gid = n
		}
	}
	return Identity{UserNS: true, OneID: true, UIDs: oneMap(uid, os.Geteuid()), GIDs: oneMap(gid, os.Getegid())}, nil
}

func (h *Host) rootIdentity(mode string) (Identity, error) {
	switch mode {
	case "", "host":
		return Identity{}, nil
	case "one-id", "keep-id", "nomap", "auto": // auto has come to nothing, see ownIDs
		return h.oneID(), nil
	}
	return Identity{}, fmt.Errorf("userns %q: as root host, auto and one-id work", mode)
}

// maps says whether a container's id has one on the host.
func (id Identity) maps(maps []specs.LinuxIDMapping, n uint32) bool {
	if !id.UserNS {
		return true
	}
	for _, m := range maps {
		if n >= m.ContainerID && n-m.ContainerID < m.Size {
			return true
		}
	}
	return false
}

// checkUser says why the container's user cannot be that one, if so.
func (id Identity) checkUser(u specs.User) error {
	if id.maps(id.UIDs, u.UID) && id.maps(id.GIDs, u.GID) {
		return nil
	}
	err := fmt.Errorf("user %d:%d: no such id is mapped into the container", u.UID, u.GID)
	if id.OneID {
		why := findSubIDs().why
		return errors.Join(err, fmt.Errorf("only one id is available (%w): "+
			"--userns=keep-id:uid=%d,gid=%d makes this user the caller", cmp.Or(why, errors.New("as --userns chose")), u.UID, u.GID))
	}
	return err
}
