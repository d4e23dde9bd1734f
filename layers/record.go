package layers

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// record is the answer to one Lookup, kept in a file of its own so that a start reads neither index nor manifest.
type record struct {
	Index stamp
	OneID bool
	Query string
	Image *Image
}

// stamp tells one state of index.json from another. Every change of hull's makes a new file.
type stamp struct {
	Ino        uint64
	Sec, Nsec  int64
	CSec, CNse int64
	Size       int64
}

// stamp looks at index.json.
func (s *Store) stamp() (stamp, error) {
	var st unix.Stat_t
	if err := unix.Stat(s.indexFile(), &st); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: s.indexFile(), Err: err}
	}
	sec, nsec := st.Mtim.Unix()
	csec, cnsec := st.Ctim.Unix()
	return stamp{st.Ino, sec, nsec, csec, cnsec, st.Size}, nil
}

// recordFile is where the answer for a query is kept. A slash cannot be in a file's name, and a long query not either.
func (s *Store) recordFile(query string) string {
	file := strings.NewReplacer("%", "%25", "/", "%2F").Replace(query)
	if len(file) > 200 {
		sum := sha256.Sum256([]byte(query))
		file = hex.EncodeToString(sum[:])
	}
	return s.root + "/records/" + file + ".record"
}

// recorded reads an answer that still is right, or nil.
func (s *Store) recorded(query string, now stamp) *Image {
	b, err := os.ReadFile(s.recordFile(query))
	if err != nil {
		return nil
	}
	r := record{Image: &Image{Config: &v1.ConfigFile{}}}
	if !r.decode(b) || r.Index != now || r.OneID != s.OneID || r.Query != query {
		return nil
	}
	return r.Image
}

// record keeps an answer. One about an image that is not all unpacked would be wrong soon. Records only save
// time, so a store that cannot be written does without.
func (s *Store) record(query string, now stamp, img *Image) {
	if img.Layers == nil {
		return
	}
	r := record{Index: now, OneID: s.OneID, Query: query, Image: img}
	s.keepRecord(s.recordFile(query), r.encode())
}

// keepRecord writes a file of records/, so that nobody sees half of it.
func (s *Store) keepRecord(path string, content []byte) {
	f, err := os.CreateTemp(s.path("records"), ".new-") // one that is left here goes with the others, see sweepRecords
	if err != nil {
		return
	}
	defer f.Close()
	_, err = f.Write(content)
	if or(err, os.Rename(f.Name(), path)) != nil {
		_ = os.Remove(f.Name())
	}
}

// recordForm stands at the beginning of each record. Another number for another form: a hull that does not know it looks
// the image up afresh.
const recordForm = "hull record 3\n"

func (r *record) encode() []byte {
	w := wire{out: []byte(recordForm)}
	w.record(r)
	return w.out
}

func (r *record) decode(b []byte) bool {
	in, ok := strings.CutPrefix(string(b), recordForm)
	w := wire{in: in, reading: true}
	if ok {
		w.record(r)
	}
	return ok && !w.bad && w.in == ""
}

// wire writes values one after the other, or reads them in the same order, so that one list of fields serves both.
// JSON would spend most of the time that a record saves on learning what the fields are.
type wire struct {
	out     []byte
	in      string
	reading bool
	bad     bool // the input is not what was written
}

func (w *wire) record(r *record) {
	w.stamp(&r.Index)
	w.texts(&r.Query)
	w.switches(&r.OneID)
	w.facts(r.Image)
	w.configFile(r.Image.Config)
}

func (w *wire) stamp(x *stamp) {
	w.number(&x.Ino)
	for _, n := range []*int64{&x.Sec, &x.Nsec, &x.CSec, &x.CNse, &x.Size} {
		w.int64(n)
	}
}

// facts are all of an image but its Config.
func (w *wire) facts(img *Image) {
	w.int64(&img.Size)
	w.texts(&img.Name, &img.Digest, &img.ID)
	w.switches(&img.OneIDSafe)
	w.lists(&img.DiffIDs, &img.Layers)
	w.time(&img.Created)
	p := &img.Platform
	w.texts(&p.Architecture, &p.OS, &p.OSVersion, &p.Variant)
	w.lists(&p.OSFeatures, &p.Features)
}

func (w *wire) configFile(c *v1.ConfigFile) {
	//lint:ignore SA1019 images have a DockerVersion, and who asks is shown what they have
	w.texts(&c.Architecture, &c.Author, &c.Container, &c.DockerVersion, &c.OS, &c.OSVersion, &c.Variant, &c.RootFS.Type)
	w.lists(&c.OSFeatures)
	w.time(&c.Created.Time)
	slice(w, &c.RootFS.DiffIDs, func(h *v1.Hash) { w.texts(&h.Algorithm, &h.Hex) })
	slice(w, &c.History, func(h *v1.History) {
		w.texts(&h.Author, &h.CreatedBy, &h.Comment)
		w.switches(&h.EmptyLayer)
		w.time(&h.Created.Time)
	})
	w.config(&c.Config)
}

func (w *wire) config(c *v1.Config) {
	w.switches(&c.AttachStderr, &c.AttachStdin, &c.AttachStdout, &c.OpenStdin, &c.StdinOnce, &c.Tty, &c.ArgsEscaped, &c.NetworkDisabled)
	w.texts(&c.Domainname, &c.Hostname, &c.Image, &c.User, &c.WorkingDir, &c.MacAddress, &c.StopSignal)
	w.lists(&c.Cmd, &c.Entrypoint, &c.Env, &c.OnBuild, &c.Shell)
	dict(w, &c.Labels, func(v *string) { w.texts(v) })
	dict(w, &c.Volumes, func(*struct{}) {})
	dict(w, &c.ExposedPorts, func(*struct{}) {})
	if has := c.Healthcheck != nil; w.is(&has) {
		if w.reading {
			c.Healthcheck = &v1.HealthConfig{}
		}
		h := c.Healthcheck
		w.lists(&h.Test)
		retries := int64(h.Retries)
		for _, n := range []*int64{(*int64)(&h.Interval), (*int64)(&h.Timeout), (*int64)(&h.StartPeriod), &retries} {
			w.int64(n)
		}
		h.Retries = int(retries)
	}
}

func (w *wire) number(n *uint64) {
	if !w.reading {
		w.out = binary.AppendUvarint(w.out, *n)
		return
	}
	var shift uint
	*n = 0
	for i := range len(w.in) {
		b := w.in[i]
		*n |= uint64(b&0x7f) << shift
		if shift += 7; b < 0x80 {
			w.in = w.in[i+1:]
			return
		}
	}
	w.bad, w.in = true, ""
}

func (w *wire) int64(n *int64) {
	u := uint64(*n)
	w.number(&u)
	*n = int64(u)
}

func (w *wire) texts(list ...*string) {
	for _, s := range list {
		n := uint64(len(*s))
		w.number(&n)
		switch {
		case !w.reading:
			w.out = append(w.out, *s...)
		case n > uint64(len(w.in)):
			w.bad, w.in = true, ""
		default:
			*s, w.in = w.in[:n], w.in[n:]
		}
	}
}

func (w *wire) switches(list ...*bool) {
	for _, b := range list {
		w.is(b)
	}
}

func (w *wire) is(b *bool) bool {
	var n uint64
	if *b {
		n = 1
	}
	w.number(&n)
	*b = n == 1
	return *b
}

func (w *wire) lists(lists ...*[]string) {
	for _, l := range lists {
		slice(w, l, func(s *string) { w.texts(s) })
	}
}

func (w *wire) time(t *time.Time) {
	text := ""
	if !w.reading {
		b, err := t.MarshalBinary()
		w.bad = w.bad || err != nil
		text = string(b)
	}
	w.texts(&text)
	if w.reading && t.UnmarshalBinary([]byte(text)) != nil {
		w.bad = true
	}
}

// length is that of a list or map plus one, or 0 for nil. What claims to be longer than the input is bad.
func (w *wire) length(n int, isNil bool) (int, bool) {
	u := uint64(n) + 1
	if isNil {
		u = 0
	}
	w.number(&u)
	if w.reading && u > uint64(len(w.in))+1 {
		w.bad, w.in, u = true, "", 0
	}
	return int(u) - 1, u == 0
}

func slice[T any](w *wire, list *[]T, each func(*T)) {
	n, isNil := w.length(len(*list), *list == nil)
	if isNil {
		return
	}
	if w.reading {
		*list = make([]T, n)
	}
	for i := range *list {
		each(&(*list)[i])
	}
}

func dict[T any](w *wire, m *map[string]T, each func(*T)) {
	n, isNil := w.length(len(*m), *m == nil)
	switch {
	case isNil:
	case w.reading:
		*m = make(map[string]T, n)
		for range n {
			var key string
			var value T
			w.texts(&key)
			each(&value)
			(*m)[key] = value
		}
	default:
		for key, value := range *m {
			w.texts(&key)
			each(&value)
		}
	}
}
