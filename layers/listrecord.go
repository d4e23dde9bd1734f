package layers

import (
	"os"
	"strings"
	"unsafe"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// listForm stands at the beginning of a recorded list, as recordForm does of a record.
const listForm = "hull list 2\n"

// listFile is where the answer of List is kept. No record of a query has this name.
func (s *Store) listFile() string {
	if s.OneID {
		return s.path("records", "list-one")
	}
	return s.path("records", "list")
}

// listed is an image of the list and its place in the index. Its Config is recorded as a text of its own, which few ask to
// be read.
type listed struct {
	place  int64
	image  Image
	config string
}

// recordedList reads the list of all images as it was written down, or gives nil if the index is another now. An image that
// was not unpacked then may be by now, so those are looked at again.
func (s *Store) recordedList(now stamp, configs bool) []listed {
	b, err := os.ReadFile(s.listFile())
	if err != nil {
		return nil
	}
	in, ok := strings.CutPrefix(unsafe.String(unsafe.SliceData(b), len(b)), listForm) // b is large, and changes no more
	w := wire{in: in, reading: true}
	var then stamp
	list := []listed{}
	if ok {
		w.list(&then, &list)
	}
	for i := range list {
		if configs && !list[i].readConfig() {
			return nil
		}
	}
	if !ok || w.bad || w.in != "" || then != now {
		return nil
	}
	return list
}

// recordList writes the list down. That only saves time, so a store that cannot be written does without.
func (s *Store) recordList(now stamp, list []listed) {
	w := wire{out: []byte(listForm)}
	for i := range list {
		c := wire{}
		c.configFile(list[i].image.Config)
		list[i].config, w.bad = string(c.out), w.bad || c.bad
	}
	w.list(&now, &list)
	if !w.bad {
		s.keepRecord(s.listFile(), w.out)
	}
}

func (w *wire) list(x *stamp, list *[]listed) {
	w.stamp(x)
	slice(w, list, func(l *listed) {
		w.int64(&l.place)
		w.facts(&l.image)
		w.texts(&l.config)
	})
}

// readConfig gives the image the Config that was recorded, and says whether it was all there.
func (l *listed) readConfig() bool {
	w := wire{in: l.config, reading: true}
	l.image.Config = &v1.ConfigFile{}
	w.configFile(l.image.Config)
	return !w.bad && w.in == ""
}

// List gives all images, each once for every name it has, in the order in which they were named; those of the
// index's entries that are no images, or whose blobs are missing, are left out.
func (s *Store) List() ([]*Image, error) { return s.list(true) }

// Brief is List for who does not look at the images' Config, which is nil here: it is most of what there is to read.
func (s *Store) Brief() ([]*Image, error) { return s.list(false) }

func (s *Store) list(configs bool) ([]*Image, error) {
	now, err := s.stamp()
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := s.recordedList(now, configs)
	known := list != nil
	if !known {
		if list, err = s.readList(); err != nil {
			return nil, err
		}
		s.recordList(now, list)
	}
	images := make([]*Image, len(list))
	for i := range list {
		images[i] = &list[i].image
		if known && images[i].Layers == nil {
			images[i] = s.lookedAtAgain(&list[i])
		}
		if !configs {
			images[i].Config = nil
		}
	}
	return images, nil
}

// readList reads every image's manifest, config and layers.
func (s *Store) readList() ([]listed, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	list := []listed{}
	for i, d := range index.Manifests {
		e, err := s.entry(d)
		if err != nil {
			continue
		}
		if img, err := s.image(e); err == nil {
			list = append(list, listed{place: int64(i), image: *img})
		}
	}
	return list, nil
}

// lookedAtAgain is an image that was not unpacked, as it is now.
func (s *Store) lookedAtAgain(l *listed) *Image {
	index, err := s.readIndex()
	if err != nil || l.place >= int64(len(index.Manifests)) {
		return &l.image
	}
	e, err := s.entry(index.Manifests[l.place])
	if err != nil || e.desc.Digest.String() != l.image.Digest {
		return &l.image
	}
	if img, err := s.image(e); err == nil {
		return img
	}
	return &l.image
}
