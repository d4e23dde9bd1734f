package layers

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An Owner is what a layer says of one file that the disk does not: whose it is where everything belongs to one
// user, which device an empty file stands for, which xattrs could not be set.
//
// A file of owners has one line for each, and the last line for a path counts:
//
//	UID:GID MODE DEVICE "PATH" ["NAME"=BASE64 …]
//	0:42 100640 - "etc/shadow"
//	0:0 20666 1:3 "dev/null"
//	0:0 100755 - "bin/ping" "security.capability"=AQAAAgAgAAAAAAAAAAAAAAAAAAA=
//	- "var/old"
//
// MODE is octal with the type in it, as in st_mode; DEVICE is major:minor or "-"; PATH and NAME are quoted as Go quotes
// strings, relative to the layer, "" for the layer itself. Only xattrs that are not on the disk are listed. The
// last form says that everything recorded at and below the path is void. A file without a line belongs to 0:0
// with the mode that it has on the disk.
type Owner struct {
	Path         string
	UID, GID     int
	Mode         uint32 // type and permissions, as in st_mode
	Major, Minor uint32 // for devices
	Xattrs       map[string]string
}

// ownersWriter writes a file of owners. Its zero value writes nowhere.
type ownersWriter struct {
	w       *bufio.Writer
	written bool // there is at least one line
}

// to sets where lines go; nil means nowhere.
func (o *ownersWriter) to(w io.Writer) {
	if w != nil {
		o.w = bufio.NewWriter(w)
	}
}

// put writes one line. An error shows in flush.
func (o *ownersWriter) put(e *Owner) {
	o.written = true
	if o.w == nil {
		return
	}
	device := "-"
	if kind := e.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		device = fmt.Sprintf("%d:%d", e.Major, e.Minor)
	}
	fmt.Fprintf(o.w, "%d:%d %o %s %q", e.UID, e.GID, e.Mode, device, e.Path)
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		fmt.Fprintf(o.w, " %s=%s", strconv.QuoteToASCII(name), base64.StdEncoding.EncodeToString([]byte(e.Xattrs[name])))
	}
	_ = o.w.WriteByte('\n')
}

// gone voids the lines at and below p.
func (o *ownersWriter) gone(p string) {
	if o.w != nil && o.written {
		fmt.Fprintf(o.w, "- %q\n", p)
	}
}

// flush hands everything over and gives the first error.
func (o *ownersWriter) flush() error {
	if o.w == nil {
		return nil
	}
	return o.w.Flush()
}

// ReadOwners reads a file of owners into a map by path. See [Owner] for the form.
func ReadOwners(r io.Reader) (map[string]Owner, error) {
	owners := make(map[string]Owner)
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for n := 1; in.Scan(); n++ {
		if err := readOwner(in.Text(), owners); err != nil {
			return nil, fmt.Errorf("owners, line %d: %w", n, err)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("owners: %w", err)
	}
	return owners, nil
}

// readOwner reads one line.
func readOwner(line string, owners map[string]Owner) error {
	if rest, ok := strings.CutPrefix(line, "- "); ok {
		p, err := strconv.Unquote(rest)
		maps.DeleteFunc(owners, func(at string, _ Owner) bool {
			return at == p || p == "" || strings.HasPrefix(at, p+"/")
		})
		return err
	}
	words := strings.SplitN(line, " ", 4)
	if len(words) < 4 {
		return fmt.Errorf("want 4 words: %q", line)
	}
	quoted, err := strconv.QuotedPrefix(words[3])
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	o := Owner{}
	o.Path, _ = strconv.Unquote(quoted)
	if _, err := fmt.Sscanf(words[0]+" "+words[1], "%d:%d %o", &o.UID, &o.GID, &o.Mode); err != nil {
		return fmt.Errorf("owner and mode: %w", err)
	}
	if words[2] != "-" {
		if _, err := fmt.Sscanf(words[2], "%d:%d", &o.Major, &o.Minor); err != nil {
			return fmt.Errorf("device: %w", err)
		}
	}
	if o.Xattrs, err = readXattrs(words[3][len(quoted):]); err != nil {
		return err
	}
	owners[o.Path] = o
	return nil
}

// readXattrs reads the xattrs at a line's end.
func readXattrs(s string) (map[string]string, error) {
	var xattrs map[string]string
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return nil, fmt.Errorf("xattr: %w", err)
		}
		name, _ := strconv.Unquote(quoted)
		value, rest, _ := strings.Cut(strings.TrimPrefix(s[len(quoted):], "="), " ")
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", name, err)
		}
		if xattrs == nil {
			xattrs = make(map[string]string)
		}
		xattrs[name], s = string(b), rest
	}
	return xattrs, nil
}
