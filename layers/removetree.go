package layers

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// RemoveTree removes dir and everything in it, read-only directories and such as are nested without end included, as long
// as the caller owns them. A tree that holds files of other ids than the caller's needs [Store.Remover]. Nothing to remove
// is no error.
func RemoveTree(dir string) error {
	err := os.RemoveAll(dir)
	// A directory that its owner may not enter or write keeps its files, and each level takes a descriptor.
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENAMETOOLONG) {
		return removeDeep(dir)
	}
	return err
}
