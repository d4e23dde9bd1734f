package hostile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Tar writes a tar, one header block after the other, without asking whether any of it makes sense.
type Tar struct{ w *bufio.Writer }

// Head is one header block (POSIX pax(1), "ustar Interchange Format"). Fields that are zero are as a small file of root's has
// them.
type Head struct {
	Name, Link   string
	Type         byte   // '0', a file
	Mode         int64  // 0644, or 0755 of a folder
	UID, GID     int64  // root
	Size         int64  // what the header says; the content's length if 0
	Number       []byte // instead of Size: the raw field of twelve bytes
	Major, Minor int64
}

// Add writes an entry with its content.
func (t *Tar) Add(h Head, content string) {
	b := make([]byte, 512)
	put := func(at, length int, s string) { copy(b[at:at+length], s) }
	if h.Type == 0 {
		h.Type = '0'
	}
	if h.Mode == 0 {
		h.Mode = 0o644
		if h.Type == '5' {
			h.Mode = 0o755
		}
	}
	if h.Size == 0 {
		h.Size = int64(len(content))
	}
	put(0, 100, h.Name)
	put(100, 8, fmt.Sprintf("%07o", h.Mode))
	put(108, 8, fmt.Sprintf("%07o", h.UID))
	put(116, 8, fmt.Sprintf("%07o", h.GID))
	put(124, 12, fmt.Sprintf("%011o", h.Size))
	copy(b[124:136], h.Number)
	put(136, 12, fmt.Sprintf("%011o", 1_700_000_000))
	b[156] = h.Type
	put(157, 100, h.Link)
	put(257, 8, "ustar\x0000")
	put(329, 8, fmt.Sprintf("%07o", h.Major))
	put(337, 8, fmt.Sprintf("%07o", h.Minor))
	t.block(b)
	t.pad(content)
}

// block writes a header with its checksum: the sum of its bytes, its own field counting as blanks.
func (t *Tar) block(b []byte) {
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	t.w.Write(b)
}

func (t *Tar) pad(content string) {
	t.w.WriteString(content)
	t.Zeros((512 - len(content)%512) % 512)
}

// Zeros writes n of them.
func (t *Tar) Zeros(n int) {
	for some := make([]byte, 4096); n > 0; n -= len(some) {
		t.w.Write(some[:min(n, len(some))])
	}
}

// Raw writes anything.
func (t *Tar) Raw(s string) { t.w.WriteString(s) }

// Pax gives the next entry extended records ("path", "linkpath", "size", "SCHILY.xattr.…").
func (t *Tar) Pax(pairs ...string) {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		body := fmt.Sprintf(" %s=%s\n", pairs[i], pairs[i+1])
		n := len(body)
		for len(fmt.Sprint(n))+len(body) != n {
			n = len(fmt.Sprint(n)) + len(body)
		}
		fmt.Fprint(&b, n, body)
	}
	t.Add(Head{Name: "pax", Type: 'x'}, b.String())
}

// Long gives the next entry a name in GNU's way, and a link's target if that is not "".
func (t *Tar) Long(name, link string) {
	t.Add(Head{Name: "././@LongLink", Type: 'L'}, name+"\x00")
	if link != "" {
		t.Add(Head{Name: "././@LongLink", Type: 'K'}, link+"\x00")
	}
}

// File, Dir, Symlink and Hardlink are the everyday entries.
func (t *Tar) File(name, content string) { t.Add(Head{Name: name}, content) }

// Dir adds a folder.
func (t *Tar) Dir(name string) { t.Add(Head{Name: name, Type: '5'}, "") }

// Symlink adds a symbolic link.
func (t *Tar) Symlink(name, to string) { t.Add(Head{Name: name, Type: '2', Link: to, Mode: 0o777}, "") }

// Hardlink adds one more name of a file.
func (t *Tar) Hardlink(name, to string) { t.Add(Head{Name: name, Type: '1', Link: to}, "") }

// Layer is a blob with what an image says of it.
type Layer struct {
	Blob   []byte
	Type   string // media type
	DiffID string
}

const gzipLayer = "application/vnd.oci.image.layer.v1.tar+gzip"

// layer makes a gzip layer of what write writes. The plain tar is never in memory: some are large.
func layer(write func(*Tar)) Layer {
	var blob bytes.Buffer
	z, _ := gzip.NewWriterLevel(&blob, gzip.BestSpeed)
	sum := sha256.New()
	t := &Tar{bufio.NewWriterSize(io.MultiWriter(sum, z), 64<<10)}
	write(t)
	t.Zeros(1024)
	t.w.Flush()
	z.Close()
	return Layer{blob.Bytes(), gzipLayer, "sha256:" + hex.EncodeToString(sum.Sum(nil))}
}

// blobLayer is a layer whose blob is given, and whose plain tar nobody gets to see the end of.
func blobLayer(blob []byte) Layer { return Layer{blob, gzipLayer, digest(blob)} }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// tarBytes is a small tar.
func tarBytes(write func(*Tar)) string {
	var b bytes.Buffer
	t := &Tar{bufio.NewWriter(&b)}
	write(t)
	t.Zeros(1024)
	t.w.Flush()
	return b.String()
}

// WriteTar writes a tar to w.
func WriteTar(w io.Writer, write func(*Tar)) error {
	t := &Tar{bufio.NewWriter(w)}
	write(t)
	t.Zeros(1024)
	return t.w.Flush()
}
