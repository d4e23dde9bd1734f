package layers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// emptyLayer is the number of a layer that holds nothing: overlay wants at least one lower directory, and two
// where there is no upper one.
const emptyLayer = "0"

// oneSuffix marks the form of a layer for somebody with one user id.
const oneSuffix = "-one"

// link is where a layer's diff ID leads to its number.
func (s *Store) link(diffID string, oneID bool) string {
	if oneID {
		return s.path("layers", "sha256", hexOf(diffID)+oneSuffix)
	}
	return s.path("layers", "sha256", hexOf(diffID))
}

// layer finds an unpacked layer. For somebody with one user id, the usual form will do when it is the same. The
// error is fs.ErrNotExist if there is none.
func (s *Store) layer(diffID string, oneID bool) (number string, facts *Facts, err error) {
	if oneID {
		number, facts, err = s.linked(diffID, true)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return number, facts, err
		}
	}
	number, facts, err = s.linked(diffID, false)
	if err == nil && oneID && !facts.Both {
		return "", nil, fs.ErrNotExist
	}
	return number, facts, err
}

// linked reads where a link leads and what is known of the layer there.
func (s *Store) linked(diffID string, oneID bool) (string, *Facts, error) {
	target, err := os.Readlink(s.link(diffID, oneID))
	if err != nil {
		return "", nil, err
	}
	number := filepath.Base(target)
	b, err := os.ReadFile(s.path("layers", number+".json"))
	if err != nil {
		return "", nil, fmt.Errorf("layer %s: %w", number, err)
	}
	var facts Facts
	if err := json.Unmarshal(b, &facts); err != nil {
		return "", nil, fmt.Errorf("layer %s: %w", number, err)
	}
	return number, &facts, nil
}

// Owners reads what a layer of [Image.Layers] says of its files beyond what is on the disk, by path. It is empty
// for most layers.
func (s *Store) Owners(number string) (map[string]Owner, error) {
	f, err := os.Open(s.path("layers", number+".owners"))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]Owner{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", number, err)
	}
	defer f.Close()
	return ReadOwners(f)
}

// numbered gives the numbers of all layers in layers/, finished or not, and of those that only left a file behind.
// "0" is not among them.
func (s *Store) numbered() ([]string, error) {
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read layers: %w", err)
	}
	var numbers []string
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		if parseNumber(name) > 0 && !slices.Contains(numbers[max(0, len(numbers)-2):], name) {
			numbers = append(numbers, name)
		}
	}
	return numbers, nil
}

// parseNumber reads a layer's number; it is 0 for what is none. Five digits are 60 million layers, and keep "sha256"
// from being one.
func parseNumber(name string) int64 {
	n, err := strconv.ParseInt(name, 36, 64)
	if err != nil || len(name) > 5 || name != strconv.FormatInt(n, 36) {
		return 0
	}
	return max(n, 0)
}

// nextNumber gives a number that no layer ever had, so that a start which looked a layer up before it was removed
// finds nothing rather than another layer. The caller holds the lock.
func (s *Store) nextNumber() (string, error) {
	numbers, err := s.numbered()
	if err != nil {
		return "", err
	}
	last := int64(0)
	if b, err := os.ReadFile(s.path("layers", ".last")); err == nil {
		last = parseNumber(string(b))
	}
	for _, number := range numbers {
		last = max(last, parseNumber(number))
	}
	next := strconv.FormatInt(last+1, 36)
	if err := os.WriteFile(s.path("layers", ".last"), []byte(next), 0o600); err != nil {
		return "", fmt.Errorf("number layer: %w", err)
	}
	return next, nil
}

// newLayer makes the directory that one layer is unpacked into, and the file for its owners, which is locked as long
// as the layer is being made. The directory stays where it is: to move a directory one must be allowed to write
// it, and somebody with subordinate ids is not, where the image gives its root to another id. What makes it a layer
// is the link that publishLayer sets.
func (s *Store) newLayer() (number string, owners *os.File, err error) {
	unlock, err := s.lock()
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	if number, err = s.nextNumber(); err != nil {
		return "", nil, err
	}
	owners, err = os.OpenFile(s.path("layers", number+".owners"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", nil, err
	}
	err = flock(owners, unix.LOCK_EX)
	err = or(err, os.Mkdir(s.LayerDir(number), 0o755))
	err = or(err, os.Chmod(s.LayerDir(number), 0o755)) // whatever the umask
	if err != nil {
		owners.Close()
		return "", nil, or(s.removeLayer(number), err)
	}
	return number, owners, nil
}

// publishLayer makes the link that says that a layer is complete. The caller holds the store's lock and made all of
// the layer durable. If somebody else published the same layer meanwhile, theirs stays and ours is to be removed.
func (s *Store) publishLayer(j *job) error {
	if _, _, err := s.layer(j.diffID, j.oneID); err == nil {
		return nil
	}
	link := s.link(j.diffID, j.oneID && !j.facts.Both)
	_ = os.Remove(link) // one that leads nowhere
	if err := os.Symlink("../"+j.number, link); err != nil {
		return err
	}
	j.published = true
	return nil
}

// endLayer gives up the lock of a layer that was made, and removes the layer if it was not published.
func (s *Store) endLayer(j *job) error {
	if j.number == "" {
		return nil
	}
	defer j.owners.Close()
	if !j.published {
		return s.removeLayer(j.number)
	}
	if st, err := j.owners.Stat(); err == nil && st.Size() == 0 {
		return os.Remove(j.owners.Name())
	}
	return nil
}

// removeLayer removes a layer that no link leads to, the lock last.
func (s *Store) removeLayer(number string) error {
	if err := s.removeTree(s.LayerDir(number)); err != nil {
		return fmt.Errorf("remove layer %s: %w", number, err)
	}
	for _, suffix := range []string{".json", ".owners"} {
		if err := os.Remove(s.path("layers", number+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove layer %s: %w", number, err)
		}
	}
	return nil
}

// beingMade says whether a living process works on a layer that has no link yet.
func (s *Store) beingMade(number string) bool {
	f, err := lockFile(s.path("layers", number+".owners"), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	f.Close()
	return false
}
