package cgroups

import (
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Left gives the Paths of groups that New made under this name and that are still there, for somebody who could not write
// down their Paths before being killed. Only those without Options.Parent are found, of an ordinary user only those in what
// is delegated to him where he is now.
func Left(name string, rootless bool) (paths []string) {
	if checkNames(name, "") != nil {
		return nil
	}
	for _, h := range holders(rootless) {
		dir := path.Join(h.dir, name)
		if _, err := os.Lstat(dir); err == nil {
			paths = append(paths, h.before+dir)
		}
	}
	return paths
}

// There is a group that somebody has made by New.
type There struct {
	Name  string
	Paths []string // for Open
	Made  time.Time
}

// All lists the groups that hull has made without Options.Parent, for whatever root directory: root's, or those in what is
// delegated to this user.
func All(rootless bool) []There {
	var list []There
	for _, p := range holders(rootless) {
		entries, _ := os.ReadDir(p.dir)
		for _, e := range entries {
			info, err := e.Info()
			if !e.IsDir() || err != nil {
				continue
			}
			at := slices.IndexFunc(list, func(t There) bool { return t.Name == e.Name() })
			if at < 0 {
				at = len(list)
				list = append(list, There{Name: e.Name()})
			}
			t := &list[at]
			t.Paths = append(t.Paths, p.before+path.Join(p.dir, e.Name()))
			if made := info.ModTime(); made.After(t.Made) {
				t.Made = made
			}
		}
	}
	return list
}

// holder is a directory in which groups are made; before is what Paths have before it.
type holder struct{ before, dir string }

func holders(rootless bool) (list []holder) {
	if Version() == 2 {
		base := standard
		if rootless {
			if base = delegated(standard); base == "" {
				return nil
			}
		}
		return []holder{{"", path.Join(base, defaultParent)}}
	}
	trees, _ := hierarchies()
	for _, h := range trees {
		base := h.dir
		if rootless {
			base = h.own
		}
		list = append(list, holder{strings.Join(h.controllers, ",") + ":", path.Join(base, defaultParent)})
	}
	return list
}
