package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/internal/given"
)

// loginFile is Docker's config.json as far as a login changes it. What else is in it stays as it was, keys too that
// nobody here knows: Docker's own type would drop them.
type loginFile struct {
	path    string
	keys    map[string]json.RawMessage
	auths   map[string]json.RawMessage
	store   string            // credsStore
	helpers map[string]string // credHelpers
}

// loginEntry is a password in auths. Docker writes the first field only.
type loginEntry struct {
	Auth          string `json:"auth,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
}

// readLoginFile reads config.json; one that is not there is empty.
func readLoginFile(path string) (*loginFile, error) {
	f := &loginFile{path: path, keys: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	data, err := given.ReadFile(path, given.Limit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return f, nil
	}
	if err = json.Unmarshal(data, &f.keys); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for key, to := range map[string]any{"auths": &f.auths, "credsStore": &f.store, "credHelpers": &f.helpers} {
		if text := f.keys[key]; text != nil {
			if err := json.Unmarshal(text, to); err != nil {
				return nil, fmt.Errorf("read %s: %s: %w", path, key, err)
			}
		}
	}
	if f.keys == nil || f.auths == nil { // "null"
		f.keys, f.auths = orEmpty(f.keys), orEmpty(f.auths)
	}
	return f, nil
}

func orEmpty(m map[string]json.RawMessage) map[string]json.RawMessage {
	if m == nil {
		return map[string]json.RawMessage{}
	}
	return m
}

// helper is the credential helper for a host's key, "" for none.
func (f *loginFile) helper(key string) string {
	if h, named := f.helpers[key]; named {
		return h
	}
	return f.store
}

// put writes an entry of auths, for a helper's login an empty one, which is how Docker notes that there is one.
func (f *loginFile) put(key string, e loginEntry) error {
	text, err := json.Marshal(e)
	if err == nil {
		f.auths[key] = text
	}
	return err
}

// save replaces the file at once, where a link leads if it is one. Only its owner can read the new one.
func (f *loginFile) save() error {
	for key, value := range map[string]any{"auths": f.auths, "credsStore": f.store} {
		if value == "" {
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		f.keys[key] = text
	}
	text, err := json.MarshalIndent(f.keys, "", "\t")
	if err != nil {
		return err
	}
	return replaceFile(linkTarget(f.path), append(text, '\n'))
}

// linkTarget follows links, the last of which may lead to nothing yet.
func linkTarget(path string) string {
	for range 40 { // the kernel's own limit
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path
}

// replaceFile puts a private file in place, durably and at once. Whose the old one was, his is the new: root may log in
// for somebody else.
func replaceFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config.json-") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil && int(st.Uid) != os.Geteuid() {
		_ = tmp.Chown(int(st.Uid), int(st.Gid))
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// lockLogins makes this process the only hull that changes config.json in dir, which is made if need be, until unlock.
func lockLogins(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		d.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return func() { d.Close() }, nil
}

// encodeLogin is Docker's way to write a name and a password.
func encodeLogin(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}
