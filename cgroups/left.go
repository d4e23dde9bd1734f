package cgroups

import (
	"path/filepath"
	"strings"
)

// Left gives the Paths of groups of root's that New made under this name and that are still there, for somebody who
// could not write down their Paths before being killed. Only those without Options.Parent are found.
func Left(name string) (paths []string) {
	if checkNames(name, "") != nil {
		return nil
	}
	if Version() == 2 {
		found, _ := filepath.Glob(filepath.Join(standard, defaultParent, name))
		return found
	}
	found, _ := filepath.Glob(filepath.Join(standard, "*", defaultParent, name))
	for _, dir := range found {
		controllers, _, _ := strings.Cut(strings.TrimPrefix(dir, standard+"/"), "/")
		paths = append(paths, controllers+":"+dir)
	}
	return paths
}
