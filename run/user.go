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
	for _, g := range e.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
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
	return f
}

// none is a file without content.
type none struct{}

func (none) Read([]byte) (int, error) { return 0, io.EOF }
func (none) Close() error             { return nil }
