package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// What a repository has is in these folders of its own; no part of a repository's name begins so.
const (
	refsFolder      = "_refs"
	blobsFolder     = "_blobs"
	referrersFolder = "_referrers"
)

// temporaryFolder is how the name of a registry's temporary folder begins.
const temporaryFolder = "hull-registry-"

// serveStore keeps what a served registry holds in files.
type serveStore struct {
	dir       string
	lock      *os.File
	temporary bool
	// mu is held for writing by what removes content that nobody names, and for reading by what gives content a name.
	mu sync.RWMutex
}

// openServeStore opens or makes dir, "" being a temporary folder. With readOnly it must be there, and is not written to.
func openServeStore(dir string, readOnly bool) (*serveStore, error) {
	s := &serveStore{dir: dir}
	var err error
	if dir == "" {
		s.temporary = true
		sweepTemporary()
		if s.dir, err = os.MkdirTemp("", temporaryFolder); err != nil {
			return nil, err
		}
	} else if !readOnly {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := s.claim(readOnly); err != nil {
		return nil, err
	}
	if readOnly {
		return s, nil
	}
	for _, d := range []string{"uploads", "blobs", "names"} {
		if err := s.mkdir(filepath.Join(s.dir, d)); err != nil {
			s.close()
			return nil, err
		}
	}
	// A layout's mark says to people and programs what blobs/ is. It also shows at once whether one may write here.
	if err := s.write(filepath.Join(s.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// sweepTemporary removes the temporary folders of servers that were killed: nobody holds their lock. Those of a minute ago
// are left alone, because their server may just be about to lock them.
func sweepTemporary() {
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), temporaryFolder+"*"))
	for _, dir := range old {
		fi, err := os.Lstat(dir)
		if err != nil || !fi.IsDir() || time.Since(fi.ModTime()) < time.Minute {
			continue
		}
		s := &serveStore{dir: dir, temporary: true}
		if s.claim(false) == nil {
			s.close()
		}
	}
}

// claim locks the folder itself, which works where nothing can be written, too. Readers share it.
func (s *serveStore) claim(readOnly bool) error {
	f, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	if fi, err := f.Stat(); err != nil || !fi.IsDir() {
		f.Close()
		return &fs.PathError{Op: "open", Path: s.dir, Err: syscall.ENOTDIR}
	}
	how := syscall.LOCK_EX
	if readOnly {
		how = syscall.LOCK_SH
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("%s: another registry serves this folder", s.dir)
		}
		return &fs.PathError{Op: "lock", Path: s.dir, Err: err}
	}
	s.lock = f
	return nil
}

func (s *serveStore) close() {
	s.lock.Close()
	if s.temporary {
		os.RemoveAll(s.dir)
	}
}

func (s *serveStore) uploads() string       { return filepath.Join(s.dir, "uploads") }
func (s *serveStore) names() string         { return filepath.Join(s.dir, "names") }
func (s *serveStore) blob(h v1.Hash) string { return filepath.Join(s.dir, blobPath(h)) }

// own is the path of something that belongs to one repository.
func (s *serveStore) own(repo string, parts ...string) string {
	return filepath.Join(append([]string{s.names(), filepath.FromSlash(repo)}, parts...)...)
}

// mkdir makes a folder and those above it, durably.
func (s *serveStore) mkdir(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if err := s.mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.syncDir(filepath.Dir(dir))
}

func (s *serveStore) syncDir(dir string) error {
	if s.temporary {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// publish makes a written file durable and gives it its name.
func (s *serveStore) publish(f *os.File, name string) error {
	err := error(nil)
	if !s.temporary {
		err = f.Sync()
	}
	if err == nil {
		err = s.mkdir(filepath.Dir(name))
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err == nil {
		err = s.syncDir(filepath.Dir(name))
	}
	return err
}

// write makes a file with that content, or replaces it, at once and durably.
func (s *serveStore) write(name string, content []byte) error {
	f, err := os.CreateTemp(s.uploads(), "tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // which is not there any more if all went well
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return s.publish(f, name)
}

// remove removes a file durably; one that is not there is an error.
func (s *serveStore) remove(name string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	return s.syncDir(filepath.Dir(name))
}

// openBlob opens a repository's blob, or says fs.ErrNotExist. Its bytes were verified when it came.
func (s *serveStore) openBlob(repo string, h v1.Hash) (*os.File, error) {
	if _, err := os.Lstat(s.own(repo, blobsFolder, h.String())); err != nil {
		return nil, err
	}
	return os.Open(s.blob(h))
}

func (s *serveStore) hasBlob(repo string, h v1.Hash) bool {
	_, err := os.Lstat(s.own(repo, blobsFolder, h.String()))
	if err == nil {
		_, err = os.Lstat(s.blob(h))
	}
	return err == nil
}

// keepBlob gives a verified file to a repository.
func (s *serveStore) keepBlob(repo string, h v1.Hash, f *os.File) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.publish(f, s.blob(h)); err != nil {
		return err
	}
	return s.mark(repo, h)
}

// mark notes that a repository has a blob that is here. s.mu is held.
func (s *serveStore) mark(repo string, h v1.Hash) error {
	name := s.own(repo, blobsFolder, h.String())
	if err := s.mkdir(filepath.Dir(name)); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	f.Close()
	return s.syncDir(filepath.Dir(name))
}

// mountBlob gives a repository what another one has, or any other where from is "". It says fs.ErrNotExist where there
// is none.
func (s *serveStore) mountBlob(repo, from string, h v1.Hash) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := os.Lstat(s.blob(h)); err != nil {
		return err
	}
	if from != "" && !s.hasBlob(from, h) {
		return fs.ErrNotExist
	}
	return s.mark(repo, h)
}

// deleteBlob takes a blob from a repository.
func (s *serveStore) deleteBlob(repo string, h v1.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.remove(s.own(repo, blobsFolder, h.String())); err != nil {
		return err
	}
	return s.sweep(h)
}

// sweep removes content that no repository names any more. s.mu is held for writing.
func (s *serveStore) sweep(h v1.Hash) error {
	repos, err := s.repos()
	if err != nil {
		return err
	}
	for _, repo := range repos {
		for _, folder := range []string{blobsFolder, refsFolder} {
			if _, err := os.Lstat(s.own(repo, folder, h.String())); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := s.remove(s.blob(h)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// repos lists the repositories, sorted.
func (s *serveStore) repos() ([]string, error) {
	var all []string
	err := filepath.WalkDir(s.names(), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // there is nothing yet, or it goes this moment
		}
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), "_") {
			return err
		}
		repo, err := filepath.Rel(s.names(), filepath.Dir(path))
		if err != nil {
			return err
		}
		all = append(all, filepath.ToSlash(repo))
		return fs.SkipDir
	})
	slices.Sort(all)
	return slices.Compact(all), err
}

// ref reads what a tag or digest stands for, or says fs.ErrNotExist.
func (s *serveStore) ref(repo, ref string) (v1.Descriptor, error) {
	return readDescriptor(s.own(repo, refsFolder, ref))
}

func readDescriptor(name string) (d v1.Descriptor, err error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// writeDescriptor is write for a descriptor. The same one is not written twice: tags are pushed again and again.
func (s *serveStore) writeDescriptor(name string, d v1.Descriptor) error {
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(name); err == nil && string(old) == string(raw) {
		return s.syncDir(filepath.Dir(name))
	}
	return s.write(name, raw)
}
