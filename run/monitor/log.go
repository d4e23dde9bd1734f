package monitor

import (
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"
)

// log keeps what a container writes, a JSON object a line, as Docker's json-file driver does:
//
//	{"log":"text\n","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}
//
// JSON cannot hold every byte. A line that is not UTF-8 has a further field "raw" with its bytes in base64, where Docker
// loses them.
type log struct {
	path     string
	max      int // size in bytes at which the next file is begun, 0 for never
	files    int
	fd       int // -1 until the first line
	size     int
	torn     bool // the last write was cut short, in mid-line
	encoded  []byte
	journal  int // socket, -1 if there is none
	id, name string
}

// line is the largest piece of text that is one entry. Longer lines are several, all but the last without "\n", as in
// Docker.
const maxLine = 16 << 10

// stream collects one of the program's outputs into lines.
type stream struct {
	fd   int
	name string
	kind byte
	want byte
	held []byte // an unfinished line
}

// add splits b into lines and keeps them. An unfinished line waits for its end.
func (l *log) add(s *stream, b []byte) {
	if l == nil {
		return
	}
	at := time.Now()
	for len(b) > 0 {
		n := min(len(b), maxLine-len(s.held))
		for i, c := range b[:n] {
			if c == '\n' {
				n = i + 1
				break
			}
		}
		piece := b[:n]
		b = b[n:]
		if len(s.held) > 0 {
			s.held = append(s.held, piece...)
			piece = s.held
		}
		if piece[len(piece)-1] != '\n' && len(piece) < maxLine {
			if len(s.held) == 0 {
				s.held = append(s.held, piece...)
			}
			break
		}
		l.entry(s.name, piece, at)
		s.held = s.held[:0]
	}
	l.flush()
}

// end keeps the unfinished line at the end of a stream.
func (l *log) end(s *stream) {
	if l != nil && len(s.held) > 0 {
		l.entry(s.name, s.held, time.Now())
		s.held = s.held[:0]
		l.flush()
	}
}

// entry encodes a piece of text. It is written by flush, or now if much has gathered.
func (l *log) entry(stream string, text []byte, at time.Time) {
	if l.journal >= 0 {
		l.send(stream, text)
		return
	}
	b := append(l.encoded, `{"log":"`...)
	b, exact := appendText(b, text)
	b = append(append(b, `","stream":"`...), stream...)
	b = append(b, `","time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if !exact {
		b = append(appendBase64(append(b, `,"raw":"`...), text), '"')
	}
	l.encoded = append(b, "}\n"...)
	if len(l.encoded) >= 64<<10 || l.max > 0 && l.size+len(l.encoded) >= l.max {
		l.flush()
	}
}

// flush writes what has gathered. Where the disk is full it is lost: the program must not stand still for it.
func (l *log) flush() {
	b := l.encoded
	l.encoded = l.encoded[:0]
	if len(b) == 0 || l.fd < 0 && !l.open() {
		return
	}
	if l.max > 0 && l.size >= l.max {
		if l.rotate(); !l.open() {
			return
		}
	}
	if l.torn { // so that the next line can be read
		if _, err := write(l.fd, []byte{'\n'}); err != nil {
			return
		}
		l.torn = false
	}
	n, err := write(l.fd, b)
	l.size += max(n, 0)
	l.torn = err == nil && n < len(b)
}

func (l *log) open() bool {
	fd, err := syscall.Open(l.path, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CREAT|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return false
	}
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) == nil {
		l.size = int(st.Size)
	}
	l.fd = fd
	return true
}

// rotate begins a new file: path.1 is the youngest of the old ones.
func (l *log) rotate() {
	syscall.Close(l.fd)
	l.fd, l.size, l.torn = -1, 0, false
	name := func(n int) string {
		if n == 0 {
			return l.path
		}
		return l.path + "." + strconv.Itoa(n)
	}
	if l.files <= 1 { // Docker begins the only file anew
		_ = syscall.Unlink(l.path)
		return
	}
	for n := l.files - 1; n > 0; n-- {
		_ = syscall.Rename(name(n-1), name(n))
	}
}

// appendText writes text as the inside of a JSON string, and says whether it can be read back exactly.
func appendText(b, text []byte) (_ []byte, exact bool) {
	exact = true
	begin := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, text[begin:i]...), `\ufffd`...)
				exact = false
				begin = i + 1
			}
			i += size
			continue
		}
		b = append(b, text[begin:i]...)
		const hex = "0123456789abcdef"
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		begin = i
	}
	return append(b, text[begin:]...), exact
}

// appendBase64 is RFC 4648's encoding; encoding/base64 would bring packages that are not initialised yet.
func appendBase64(b, data []byte) []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for ; len(data) >= 3; data = data[3:] {
		n := uint(data[0])<<16 | uint(data[1])<<8 | uint(data[2])
		b = append(b, letters[n>>18], letters[n>>12&63], letters[n>>6&63], letters[n&63])
	}
	switch len(data) {
	case 1:
		n := uint(data[0]) << 16
		b = append(b, letters[n>>18], letters[n>>12&63], '=', '=')
	case 2:
		n := uint(data[0])<<16 | uint(data[1])<<8
		b = append(b, letters[n>>18], letters[n>>12&63], letters[n>>6&63], '=')
	}
	return b
}

// JournalSocket is where systemd's journal takes entries, systemd-journald.service(8).
const JournalSocket = "/run/systemd/journal/socket"

// openJournal connects to the journal, and gives -1 where it does not run.
func openJournal() int {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: JournalSocket}); err != nil {
		syscall.Close(fd)
		return -1
	}
	return fd
}

// send gives the journal an entry, with the fields that Docker's driver sets. The text has its length in front, in the
// journal's native protocol, so that it may hold anything.
func (l *log) send(stream string, text []byte) {
	if len(text) > 0 && text[len(text)-1] == '\n' {
		text = text[:len(text)-1]
	}
	priority := "6"
	if stream == "stderr" {
		priority = "3"
	}
	b := append(l.encoded[:0], "PRIORITY="+priority+"\nSYSLOG_IDENTIFIER="+l.id[:min(12, len(l.id))]+"\nCONTAINER_ID="+l.id[:min(12, len(l.id))]+
		"\nCONTAINER_ID_FULL="+l.id+"\nCONTAINER_NAME="+l.name+"\nMESSAGE\n"...)
	for i := range 8 {
		b = append(b, byte(uint64(len(text))>>(8*i)))
	}
	b = append(append(b, text...), '\n')
	_ = syscall.Sendto(l.journal, b, syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT, nil)
	l.encoded = b[:0]
}
