package hostile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"strings"
)

// sizes want more of the machine than it has.
func sizes() []Case {
	one := func(name, pull string, write func(*Tar)) Case {
		return Case{Name: "size-" + name, Pull: pull, Make: func(m *Image) { m.Add(write) }}
	}
	blob := func(name, pull string, make func() []byte) Case {
		return Case{Name: "size-" + name, Pull: pull, Make: func(m *Image) { m.Layers = append(m.Layers, blobLayer(make())) }}
	}
	sparse := func(size string) func(*Tar) {
		return func(t *Tar) {
			t.Pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "etc/passwd", "GNU.sparse.realsize", size)
			t.Add(Head{Name: "x"}, "1\n0\n0\n"+strings.Repeat("\x00", 506))
		}
	}
	once := func(c Case) Case {
		c.Once = true
		return c
	}
	return []Case{
		// Deflate ends at 1032 to 1, which a file of zeros reaches: that is no error, but neither does it cost memory.
		blob("bomb-gzip", "diff ID", func() []byte { return gzipBomb(64 << 20) }),
		once(blob("bomb-gzip-behind-the-end", "diff ID", func() []byte {
			return append(gz(tarBytes(func(*Tar) {})), bytes.Repeat(gz(string(make([]byte, 16<<20))), 32)...)
		})),
		once(blob("bomb-zstd", "bytes from each compressed byte", func() []byte { return zstdBomb(2<<30, 8<<20) })),
		blob("zstd-window", "window size exceeded", func() []byte { return zstdBomb(1<<20, 128<<20) }),
		{Name: "size-zstd-windows", Pull: "diff ID", Make: func(m *Image) { // of what is allowed, many at once
			for i := range 6 {
				m.Layers = append(m.Layers, blobLayer(zstdBomb(80<<20+int64(i)<<20, 64<<20)))
			}
		}},
		{Name: "size-sparse-1gb-passwd", Run: "token too long", Make: func(m *Image) { m.Add(sparse(fmt.Sprint(1 << 30))) }},
		one("sparse-1tb", "bytes", sparse(fmt.Sprint(1<<40-1<<20))),
		one("sparse-8eib", "bytes", sparse("9223372036854775807")),
		one("sparse-negative", "invalid tar header", sparse("-5")),
		one("sparse-map", "tar", func(t *Tar) { // more fragments than anybody would hold in memory
			t.Pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "f", "GNU.sparse.realsize", "1000000000")
			t.Add(Head{Name: "x"}, "9000000\n"+strings.Repeat("1\n0\n", 2_000_000))
		}),
		one("8eib", "bytes", func(t *Tar) { t.Pax("size", "9223372036854775807"); t.File("f", "") }),
		one("base256-8eib", "bytes", func(t *Tar) {
			t.Add(Head{Name: "f", Number: append([]byte{0x80, 0, 0, 0, 0x7f}, bytes.Repeat([]byte{0xff}, 7)...)}, "")
		}),
		one("negative", "invalid tar header", func(t *Tar) {
			t.Add(Head{Name: "f", Number: bytes.Repeat([]byte{0xff}, 12)}, "")
		}),
		one("negative-pax", "invalid tar header", func(t *Tar) { t.Pax("size", "-1"); t.File("f", "") }),
		one("pax-huge", "tar", func(t *Tar) { t.Add(Head{Name: "x", Type: 'x'}, strings.Repeat("x", 8<<20)) }),
		one("pax-endless", "tar", func(t *Tar) { t.Add(Head{Name: "x", Type: 'x', Size: 1 << 32}, "") }),
		one("100000-entries", "", func(t *Tar) {
			for i := range 100_000 {
				t.File(fmt.Sprintf("d%d/f%d", i/1000, i), "")
			}
		}),
		one("16000-long-folders", "", func(t *Tar) { // names of 4000 bytes that have to be remembered to the end
			for i := range 16_000 {
				t.Pax("path", strings.Repeat("./", 2000)+fmt.Sprintf("d%d", i%50))
				t.Dir("x")
			}
		}),
		one("folders-of-long-paths", "", func(t *Tar) {
			deep := strings.Repeat(strings.Repeat("n", 200)+"/", 19)
			for i := range 15_000 {
				t.Pax("path", deep+fmt.Sprint(i%100))
				t.Dir("x")
			}
		}),
		one("implied-folders", "", func(t *Tar) { // few bytes that make many folders
			for i := range 10 {
				t.Pax("path", fmt.Sprint(i)+strings.Repeat("/d", 400))
				t.Dir("x")
			}
		}),
		{Name: "size-200-layers", Pull: "layers", Make: func(m *Image) {
			for i := range 200 {
				m.Add(func(t *Tar) { t.File(fmt.Sprint(i), "") })
			}
		}},
	}
}

// gzipBomb is a file of n zeros, a multiple of 16 MiB, as gzip members that are all the same.
func gzipBomb(n int) []byte {
	const piece = 16 << 20
	member := gz(string(make([]byte, piece)))
	return append(gz(layerHeader(int64(n))), bytes.Repeat(member, n/piece)...)
}

// layerHeader begins a file of n bytes.
func layerHeader(n int64) string {
	return tarBytes(func(t *Tar) { t.Add(Head{Name: "zeros", Size: n}, "") })[:512]
}

// zstdBomb is n zeros in a zstd frame (RFC 8878) with a window as large as given: blocks of type RLE, four bytes for 128 KiB.
func zstdBomb(n, window int64) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, byte(log2(window)-10) << 3} // no content size; the window's exponent
	raw := layerHeader(n)
	b = append(b, block(0, len(raw), false)...)
	b = append(b, raw...)
	for ; n > 0; n -= 128 << 10 {
		b = append(append(b, block(1, 128<<10, n <= 128<<10)...), 0)
	}
	return b
}

func block(kind, size int, last bool) []byte {
	v := uint32(kind<<1 | size<<3)
	if last {
		v |= 1
	}
	return binary.LittleEndian.AppendUint32(nil, v)[:3]
}

func log2(n int64) (e int) {
	for ; n > 1; n >>= 1 {
		e++
	}
	return e
}

// tars are layers that are damaged, or no layers at all.
func tars() []Case {
	cut := func(n int) func(*Image) {
		return func(m *Image) {
			b := m.Layers[0].Blob
			m.Layers = append(m.Layers, blobLayer(b[:len(b)-n]))
		}
	}
	raw := func(name, pull string, blob []byte) Case {
		return Case{Name: "tar-" + name, Pull: pull, Make: func(m *Image) { m.Layers = append(m.Layers, blobLayer(blob)) }}
	}
	plain := tarBytes(func(t *Tar) { t.File("f", "content") })
	return []Case{
		{Name: "tar-cut-gzip", Make: cut(20), Pull: "unexpected EOF"},
		{Name: "tar-cut-trailer", Make: cut(4), Pull: "unexpected EOF"},
		raw("cut-header", "unexpected EOF", []byte(plain[:300])),
		raw("cut-content", "unexpected EOF", []byte(plain[:515])),
		raw("rubbish", "invalid tar header", bytes.Repeat([]byte("rubbish!"), 1000)),
		raw("bad-checksum", "invalid tar header", []byte("x"+plain[1:])),
		raw("empty", "download", nil),
		raw("xz", "xz: data is corrupt", []byte("\xfd7zXZ\x00rubbish")),
		raw("bzip2", "unexpected EOF", []byte("BZh91AY&SYrubbish")),
		raw("gzip-rubbish", "not a gzip stream", append(gz(plain), "rubbish"...)),
		{Name: "tar-trailing-rubbish", Make: func(m *Image) { // behind the end of the archive: read, hashed, not unpacked
			m.Add(func(t *Tar) { t.Zeros(1024); t.Raw(strings.Repeat("rubbish!", 10000)); t.File("etc/evil", "") })
		}},
		{Name: "tar-two-archives", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.File("a", ""); t.Zeros(1024); t.File("../../../b", "evil") })
		}},
		{Name: "tar-global-header", Make: func(m *Image) {
			m.Add(func(t *Tar) {
				t.Add(Head{Name: "g", Type: 'g'}, "27 path=../../../../canary\n")
				t.File("f", "evil")
			})
		}},
		{Name: "tar-gzip-name", Make: func(m *Image) { // gzip's own file name is nobody's business
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Name = "../../../../canary/secret"
			z.Write([]byte(plain))
			z.Close()
			m.Layers = append(m.Layers, Layer{b.Bytes(), gzipLayer, digest([]byte(plain))})
		}},
	}
}

func gz(s string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(s))
	z.Close()
	return b.Bytes()
}
