package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// download reads one blob from registries to its end, however often the connection breaks: it asks for the rest by
// range, or for everything again where ranges are not understood, and drops what it has. Where one endpoint gives up,
// the next one goes on at the same byte; should two have different bytes under one digest, the digest tells.
type download struct {
	ctx    context.Context
	from   []*session // the first is asked; never empty
	policy retryPolicy
	log    func(format string, a ...any)
	blob   v1.Descriptor

	body    io.ReadCloser // nil between connections
	skip    int64         // bytes of body that were delivered before
	off     int64         // bytes delivered
	noRange bool          // this endpoint answered a range wrongly
	fails   int           // in a row
	failOff int64         // off at the last failure
}

// start opens the first connection, so that a missing blob shows before anybody reads.
func (d *download) start() error {
	for {
		err := d.open()
		if err == nil {
			return nil
		}
		if err = d.failed(err, refused(err) && d.off > 0); err != nil {
			return err
		}
	}
}

func (d *download) Read(p []byte) (int, error) {
	for {
		if d.body == nil {
			if err := d.start(); err != nil {
				return 0, err
			}
		}
		n, err := d.read(p)
		if n > 0 {
			return n, nil
		}
		if err == nil {
			continue
		}
		// With all bytes here, it does not matter how the connection ends.
		if d.off >= d.blob.Size && d.ctx.Err() == nil {
			return 0, io.EOF
		}
		if err == io.EOF {
			err = fmt.Errorf("the connection ended at byte %d of %d: %w", d.off, d.blob.Size, io.ErrUnexpectedEOF)
		}
		d.Close()
		if err = d.failed(err, true); err != nil {
			return 0, err
		}
	}
}

// read takes bytes from the open body. It asks for one more than is missing, so that a body that is too long is seen
// (by the caller that counts) and a connection whose body is at its end can be used again.
func (d *download) read(p []byte) (int, error) {
	if rest := d.blob.Size - d.off + 1; int64(len(p)) > rest && d.skip == 0 {
		p = p[:rest]
	}
	if d.skip > 0 {
		n, err := d.body.Read(p[:min(int64(len(p)), d.skip)])
		d.skip -= int64(n)
		return 0, err
	}
	n, err := d.body.Read(p)
	d.off += int64(n)
	return n, err
}

// failed decides what follows a failure: nil to connect again (after a wait), or the error that ends the download.
// again tells whether the same endpoint deserves another attempt.
func (d *download) failed(err error, again bool) error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if errors.Is(err, http.ErrBodyReadAfterClose) { // by the reader, who has enough: another layer failed
		return err
	}
	if d.off-d.failOff >= minProgress {
		d.fails = 0
	}
	d.fails, d.failOff = d.fails+1, d.off
	if again && d.fails < d.policy.attempts {
		d.log("blob %s: %v; going on at byte %d (%d of %d)", d.blob.Digest, err, d.off, d.fails+1, d.policy.attempts)
		return d.policy.wait(d.ctx, d.fails, 0)
	}
	if len(d.from) == 1 {
		return err
	}
	d.log("blob %s: %v; asking %s instead of %s", d.blob.Digest, err, d.from[1].ep.host, d.from[0].ep.host)
	d.from, d.fails, d.noRange = d.from[1:], 0, false
	return nil
}

// open asks for the bytes from off on.
func (d *download) open() error {
	header := http.Header{}
	// The end is written, too, though it is the blob's: go-containerregistry's own registry wants it.
	if d.off > 0 && d.off < d.blob.Size && !d.noRange {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.off, d.blob.Size-1))
	}
	resp, err := d.from[0].do(d.ctx, http.MethodGet, "blobs/"+d.blob.Digest.String(), header)
	if err != nil {
		return err
	}
	start, err := d.answer(resp)
	if err != nil {
		resp.Body.Close()
		return err
	}
	d.body, d.skip = resp.Body, d.off-start
	return nil
}

// answer checks a response and tells at which byte of the blob its body starts.
func (d *download) answer(resp *http.Response) (start int64, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
		if n := resp.ContentLength; n >= 0 && n != d.blob.Size {
			return 0, problemf(ErrCorrupt, "the registry has %d bytes, the manifest says %d", n, d.blob.Size)
		}
		return 0, nil
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		err := checkRange(resp, d.off, d.blob.Size)
		if err == nil {
			return d.off, nil
		}
		if d.noRange {
			return 0, problemf(ErrCorrupt, "%w, and no range was asked for", err)
		}
		d.noRange = true
		return 0, &rangeError{err}
	}
	return 0, transport.CheckError(resp, http.StatusOK)
}

// rangeError is an answer to a range that cannot be trusted; the next attempt asks for everything.
type rangeError struct{ error }

// checkRange wants Content-Range: bytes OFF-LAST/SIZE, where SIZE may be unknown (*).
func checkRange(resp *http.Response, off, size int64) error {
	got := resp.Header.Get("Content-Range")
	want := fmt.Sprintf("bytes %d-%d/", off, size-1)
	if resp.StatusCode == http.StatusPartialContent && (got == want+"*" || got == want+fmt.Sprint(size)) {
		return nil
	}
	return fmt.Errorf("asked for bytes %d-%d of %d, got %s with Content-Range %q", off, size-1, size, resp.Status, got)
}

// refused tells whether an attempt to go on met a closed door, or an answer that the next attempt will ask for in
// another way. A registry that answered a moment ago may be restarting.
func refused(err error) bool {
	var dial *net.OpError
	var bad *rangeError
	return errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &bad)
}

// Close ends the current connection.
func (d *download) Close() error {
	if d.body == nil {
		return nil
	}
	err := d.body.Close()
	d.body = nil
	return err
}
