package layers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// RemoveTree removes dir and everything in it, read-only directories included, as long as the caller owns them.
// A tree that holds files of other ids than the caller's needs [Store.Remover]. Nothing to remove is no error.
func RemoveTree(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// A directory that its owner may not enter or write keeps its files. WalkDir shows a directory before
	// it reads it, and does not follow links.
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
