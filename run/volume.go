package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// Volume is a directory of files that outlives the containers it is mounted in, with the fields of docker volume
// inspect. Below hull's root it is
//
//	volumes/NAME/_data         what containers see
//	volumes/NAME/volume.json   the rest
//
// and comes into being, and goes, by the renaming of volumes/NAME.
type Volume struct {
	CreatedAt  time.Time
	Driver     string // always "local"
	Labels     map[string]string
	Mountpoint string // its files; for one with Options what is mounted shows in containers alone
	Name       string
	Options    map[string]string // see mount
	Scope      string            // always "local"
}

// volumeRecord is volume.json.
type volumeRecord struct {
	Volume
	// Container is whom an anonymous volume was made for, should that never come into being.
	Container string `json:",omitempty"`
}

// anonymousLabel marks volumes that nobody named. It is Docker's.
const anonymousLabel = "com.docker.volume.anonymous"

const (
	volumeFile   = "volume.json"
	volumeDriver = "local"
)

// VolumeConfig is what somebody wishes of a volume. An empty name makes an anonymous one.
type VolumeConfig struct {
	Name, Driver string
	Options      map[string]string
	Labels       map[string]string
}

// Anonymous says whether nobody gave the volume its name.
func (v *Volume) Anonymous() bool {
	_, ok := v.Labels[anonymousLabel]
	return ok
}

func (h *Host) volumes() string               { return filepath.Join(h.Root, "volumes") }
func (h *Host) volumeDir(name string) string  { return filepath.Join(h.volumes(), name) }
func (h *Host) volumeData(name string) string { return filepath.Join(h.volumes(), name, "_data") }

// CreateVolume makes a volume. One that is there already is given as it is, whatever was wished, as in Docker.
func (h *Host) CreateVolume(c VolumeConfig) (*Volume, error) {
	return h.createVolume(c, "")
}

// createVolume makes a volume; with the ID of a container it is an anonymous one, made for that.
func (h *Host) createVolume(c VolumeConfig, container string) (*Volume, error) {
	r := volumeRecord{Container: container, Volume: Volume{
		CreatedAt: time.Now().Truncate(time.Second), Name: c.Name, Labels: maps.Clone(c.Labels), Options: maps.Clone(c.Options),
	}}
	if c.Name == "" || container != "" {
		r.Labels = put(r.Labels, anonymousLabel, "")
	}
	if c.Name == "" {
		r.Name = NewID()
	}
	if err := CheckVolumeName(r.Name); err != nil {
		return nil, err
	}
	if v, err := h.Volume(r.Name); !errors.Is(err, ErrNotFound) {
		return v, err
	}
	if err := c.check(h.rootless); err != nil {
		return nil, fmt.Errorf("create volume %s: %w", r.Name, err)
	}
	fresh, err := h.makeVolume(&r)
	if err != nil {
		return nil, fmt.Errorf("create volume %s: %w", r.Name, err)
	}
	if fresh {
		h.noteVolume("create", r.Name)
	}
	return h.Volume(r.Name)
}

func (c *VolumeConfig) check(rootless bool) error {
	if c.Driver != "" && c.Driver != volumeDriver {
		return fmt.Errorf("error looking up volume plugin %s: plugin %q not found: want local", c.Driver, c.Driver)
	}
	s, err := parseVolumeOptions(c.Options)
	if err != nil {
		return err
	}
	return s.check(rootless)
}

// makeVolume makes the directory of a volume under another name and renames it. fresh is false if somebody else was first.
func (h *Host) makeVolume(r *volumeRecord) (fresh bool, err error) {
	dir, lock, err := h.scratch("volume-")
	if err != nil {
		return false, err
	}
	defer lock.Close()
	defer os.RemoveAll(dir)
	// Of the files below only those of the volume itself are for others, in a container: it may hold setuid programs.
	if err := os.MkdirAll(h.volumes(), 0o700); err != nil {
		return false, err
	}
	data := filepath.Join(dir, "_data")
	if err := errors.Join(os.Mkdir(data, 0o755), os.Chmod(data, 0o755)); err != nil { // whatever the umask
		return false, err
	}
	if err := writeRecord(filepath.Join(dir, volumeFile), r); err != nil {
		return false, err
	}
	err = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, h.volumeDir(r.Name), unix.RENAME_NOREPLACE)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("rename", err)
}

// writeRecord writes volume.json. A volume that somebody named has to be there after a power cut, with its options.
func writeRecord(path string, r *volumeRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && r.Container == "" {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// scratch makes a directory below tmp. It is locked until the file is closed: what is not locked there is rubbish.
func (h *Host) scratch(prefix string) (dir string, lock *os.File, err error) {
	tmp := filepath.Join(h.Root, "tmp")
	for {
		dir, err = os.MkdirTemp(tmp, prefix)
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(tmp, 0o700); err == nil {
				continue
			}
		}
		if err != nil {
			return "", nil, err
		}
		if lock, err = lockDir(dir, unix.LOCK_EX); err == nil {
			return dir, lock, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errLocked) { // else a sweep found it unlocked
			return "", nil, err
		}
	}
}

// lockDir locks a directory that others may remove, without waiting: errLocked says that somebody has it.
func lockDir(dir string, how int) (*os.File, error) { return lockAt(dir, how|unix.LOCK_NB) }

// Volume finds a volume by its name.
func (h *Host) Volume(name string) (*Volume, error) {
	r, err := h.volumeRecord(name)
	if err != nil {
		return nil, err
	}
	return &r.Volume, nil
}

func noVolume(name string) error {
	return fmt.Errorf("get %s: no such volume%w", name, errHidden{ErrNotFound})
}

func (h *Host) volumeRecord(name string) (*volumeRecord, error) {
	if !validName(name) {
		return nil, noVolume(name)
	}
	dir := h.volumeDir(name)
	st, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return nil, noVolume(name)
	}
	if err != nil {
		return nil, fmt.Errorf("get volume %s: %w", name, err)
	}
	r := &volumeRecord{Volume: Volume{CreatedAt: st.ModTime().Truncate(time.Second)}}
	data, err := os.ReadFile(filepath.Join(dir, volumeFile))
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // one without the file is plain
		return nil, fmt.Errorf("get volume %s: %w", name, err)
	}
	r.Name, r.Mountpoint, r.Driver, r.Scope = name, h.volumeData(name), volumeDriver, "local"
	return r, nil
}

// Volumes gives all volumes by name.
func (h *Host) Volumes() ([]*Volume, error) {
	records, err := h.volumeRecords()
	list := make([]*Volume, len(records))
	for i, r := range records {
		list[i] = &r.Volume
	}
	return list, err
}

func (h *Host) volumeRecords() ([]*volumeRecord, error) {
	entries, err := os.ReadDir(h.volumes())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []*volumeRecord
	for _, e := range entries {
		if r, err := h.volumeRecord(e.Name()); err == nil { // else gone meanwhile, or no volume
			list = append(list, r)
		}
	}
	return list, nil
}

// Size is the space that the volume's files take up, in bytes, as far as the caller may look.
func (v *Volume) Size() int64 { return layers.DiskSpace(v.Mountpoint) }

// holdVolumes keeps volumes from being removed while a container takes some, or with alone set the other way round. It
// holds until the file is closed, and may wait, but never for long: a container that has taken a volume has a shared
// lock on the volume's directory until its state is written down, which tells others that it uses it. Who holds images
// too takes them first.
func (h *Host) holdVolumes(alone bool) (*os.File, error) {
	return h.hold("volumes.lock", alone)
}

// VolumeUsers gives the IDs of the containers that use each volume, whether they run or not.
func (h *Host) VolumeUsers() (map[string][]string, error) {
	entries, err := os.ReadDir(h.containers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	users := map[string][]string{}
	for _, e := range entries {
		s, err := h.read(e.Name())
		if err != nil {
			continue // not one yet, and then its maker holds the volumes; or gone
		}
		for _, name := range s.volumeNames() {
			users[name] = append(users[name], s.ID)
		}
	}
	return users, nil
}

// volumeNames names the volumes that are mounted in the container, each once.
func (s *State) volumeNames() []string {
	var names []string
	for _, m := range s.Mounts {
		if m.Type == MountVolume && !slices.Contains(names, m.Source) {
			names = append(names, m.Source)
		}
	}
	return names
}

// RemoveVolume removes a volume that no container uses.
func (h *Host) RemoveVolume(name string) error {
	alone, err := h.holdVolumes(true)
	if errors.Is(err, fs.ErrNotExist) {
		return noVolume(name) // no root directory, no volume
	}
	if err != nil {
		return err
	}
	defer alone.Close()
	if _, err := h.Volume(name); errors.Is(err, ErrNotFound) {
		return err
	}
	taken := h.checkNotTaken(name)
	users, err := h.VolumeUsers()
	if err != nil {
		return err
	}
	if who := users[name]; len(who) > 0 {
		return fmt.Errorf("remove %s: volume is in use - [%s]", name, strings.Join(who, ", "))
	}
	if taken != nil {
		return taken
	}
	return h.removeVolume(name)
}

// checkNotTaken gives errLocked if a container that is not written down yet has taken the volume. The caller holds all
// volumes, so that none is taken from now on, and asks for the VolumeUsers only after this: those that were asked for
// before miss a container that was written down in between.
func (h *Host) checkNotTaken(name string) error {
	use, err := lockDir(h.volumeDir(name), unix.LOCK_EX)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("remove %s: volume is in use - by a container that is being created%w", name, errHidden{err})
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return use.Close()
}

// removeVolume removes a volume. The caller holds all of them, and has seen that it is not taken and has no users, in
// this order.
func (h *Host) removeVolume(name string) error {
	dir, lock, err := h.scratch("volume-")
	if err == nil {
		defer lock.Close()
		err = os.Rename(h.volumeDir(name), filepath.Join(dir, "volume"))
	}
	if err == nil {
		h.noteVolume("destroy", name)
		err = h.removeTree(dir)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// PruneVolumes removes the volumes that no container uses and that accept takes, and gives their names and the bytes
// that they took up. It goes on past one that cannot be removed.
func (h *Host) PruneVolumes(accept func(*Volume) bool) (names []string, freed int64, err error) {
	alone, err := h.holdVolumes(true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer alone.Close()
	list, err := h.Volumes()
	if err != nil {
		return nil, 0, err
	}
	list = slices.DeleteFunc(list, func(v *Volume) bool { return !accept(v) })
	taken := map[string]error{}
	for _, v := range list {
		taken[v.Name] = h.checkNotTaken(v.Name)
	}
	users, err := h.VolumeUsers()
	if err != nil {
		return nil, 0, err
	}
	var failed []error
	for _, v := range list {
		if err := taken[v.Name]; len(users[v.Name]) > 0 || errors.Is(err, errLocked) {
			continue
		} else if err != nil {
			failed = append(failed, err)
			continue
		}
		size := v.Size()
		if err := h.removeVolume(v.Name); err != nil {
			failed = append(failed, err)
			continue
		}
		names, freed = append(names, v.Name), freed+size
	}
	return names, freed, errors.Join(failed...)
}

// sweepVolumes removes what killed hulls have left of volumes that were being made or removed.
func (h *Host) sweepVolumes() {
	left, _ := filepath.Glob(filepath.Join(h.Root, "tmp", "volume-*"))
	for _, dir := range left {
		if lock, err := lockDir(dir, unix.LOCK_EX); err == nil {
			_ = h.removeTree(dir)
			lock.Close()
		}
	}
}

// noteVolume appends an event about a volume. more are pairs of further attributes.
func (h *Host) noteVolume(action, name string, more ...string) {
	a := map[string]string{"driver": volumeDriver}
	for i := 0; i+1 < len(more); i += 2 {
		a[more[i]] = more[i+1]
	}
	h.note(Event{Type: "volume", Action: action, ID: name, Attributes: a})
}
