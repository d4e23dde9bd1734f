package run

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/layers"
)

// User is who the program runs as.
type User struct {
	specs.User
	Home string
}

// findUser finds who the container's program runs as: who the user says, or the image.
func (c *Container) findUser(config *Config, img *layers.Image, id Identity) (User, error) {
	user := cmp.Or(config.Process.User, img.Config.Config.User)
	if user == "" && !(id.maps(id.UIDs, 0) && id.maps(id.GIDs, 0)) { // --userns=keep-id
		user = fmt.Sprintf("%d:%d", id.UIDs[0].ContainerID, id.GIDs[0].ContainerID)
	}
	dirs := append([]string{c.path("upper")}, c.host.Images.Dirs(img)...)
	u, err := lookupUser(dirs, user, config.Process.GroupAdd)
	if err != nil {
		return u, err
	}
	return u, id.checkUser(u.User)
}

// lookupUser finds a user in the passwd and group files of a stack of directories, topmost first. Numbers need not be
// listed there; names must. The rules are Docker's: a number that is listed gets that entry's group, groups and home.
func lookupUser(dirs []string, spec string, groupAdd []string) (User, error) {
	passwd, group := openIn(dirs, "/etc/passwd"), openIn(dirs, "/etc/group")
	defer passwd.Close()
	defer group.Close()
	e, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}
	u := User{Home: cmp.Or(e.Home, "/")}
	u.UID, u.GID = uint32(e.Uid), uint32(e.Gid)
	// The primary group is among the others, too: a program that takes on a second one (set-group-ID) would otherwise be rid
	// of the first, and of what the first forbids (CVE-2022-36109).
	u.AdditionalGids = []uint32{u.GID}
	for _, g := range e.Sgids {
		if !slices.Contains(u.AdditionalGids, uint32(g)) {
			u.AdditionalGids = append(u.AdditionalGids, uint32(g))
		}
	}
	if len(groupAdd) == 0 {
		return u, nil
	}
	again := openIn(dirs, "/etc/group")
	defer again.Close()
	more, err := user.GetAdditionalGroups(groupAdd, again)
	slices.Sort(more) // they come out of a map
	if err != nil {
		return User{}, fmt.Errorf("group-add: %w", err)
	}
	for _, g := range more {
		if slices.Contains(u.AdditionalGids, uint32(g)) {
			continue
		}
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return u, nil
}

// openIn opens a file of the image; one that is missing or out of reach reads as empty.
func openIn(dirs []string, path string) io.ReadCloser {
	f, err := layers.OpenFile(dirs, path)
	if err != nil {
		return none{}
	}
	return bounded{io.LimitReader(f, maxPasswd), f}
}

// maxPasswd is how much is read of a file of users in bytes: the container may have written it, to keep us busy.
const maxPasswd = 16 << 20

type bounded struct {
	io.Reader
	io.Closer
}

// none is a file without content.
type none struct{}

func (none) Read([]byte) (int, error) { return 0, io.EOF }
func (none) Close() error             { return nil }
