package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fetch is a blob on its way from the mirrored registry to the store. All who want it meanwhile read what is here of it,
// except the last byte: that is handed out when the digest was right.
type fetch struct {
	mu    sync.Mutex
	news  *sync.Cond // something below has changed
	users int        // who reads file, and the download itself
	file  *os.File   // nil until the size is known
	size  int64
	have  int64
	done  bool  // the blob is in the store
	err   error // why it will not be
}

// join finds the running download of a blob, for whichever repository, or begins one. The caller leaves it.
func (m *mirror) join(repo string, d v1.Hash) *fetch {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.fetches[d]; f != nil {
		f.mu.Lock()
		f.users++
		f.mu.Unlock()
		return f
	}
	f := &fetch{users: 2}
	f.news = sync.NewCond(&f.mu)
	m.fetches[d] = f
	m.running.Go(func() {
		err := m.download(f, repo, d)
		m.mu.Lock()
		delete(m.fetches, d)
		m.mu.Unlock()
		f.end(err)
		f.leave()
	})
	return f
}

func (f *fetch) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.err = err == nil, err
	f.news.Broadcast()
}

func (f *fetch) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users--; f.users == 0 && f.file != nil {
		f.file.Close()
	}
}

// download brings a blob into the store. It goes on when who asked for it has left.
func (m *mirror) download(f *fetch, repo string, d v1.Hash) error {
	size, err := m.size(m.ctx, repo, d)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(m.store.uploads(), "mirror-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // which is not there any more if all went well
	f.mu.Lock()
	f.file, f.size = file, size
	f.news.Broadcast()
	f.mu.Unlock()
	body, err := openBlob(m.ctx, m.source(repo), v1.Descriptor{Digest: d, Size: size})
	if err == nil {
		defer body.Close()
		_, err = io.Copy(f, body)
	}
	if err == nil {
		err = m.store.keepBlob(repo, d, file)
	}
	if err != nil {
		m.log("fetch %s from %s: %v", d, m.name, err)
		return refuse(http.StatusBadGateway, "UNKNOWN", "fetch from %s: %w", m.name, err)
	}
	return nil
}

// Write takes the next bytes of the download.
func (f *fetch) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have += int64(n)
	f.news.Broadcast()
	return n, err
}

// size asks how large a blob is there.
func (m *mirror) size(ctx context.Context, repo string, d v1.Hash) (size int64, err error) {
	s := m.source(repo).sessions[0]
	err = m.ask(ctx, func(ctx context.Context) error {
		resp, err := s.do(ctx, http.MethodHead, "blobs/"+d.String(), nil)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if err := statusError(resp); err != nil {
			return err
		}
		if size, err = strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64); err != nil || size < 0 {
			return problemf(ErrUnsupported, "no size of blob %s", d)
		}
		return nil
	})
	return size, err
}

// statusError sorts the status of an answer that has no body.
func statusError(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusNotFound:
		return problemf(ErrNotFound, "%s", resp.Status)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return problemf(ErrUnauthorized, "%s", resp.Status)
	case code == http.StatusTooManyRequests, code >= 500:
		return problemf(ErrUnavailable, "%s", resp.Status)
	default:
		return fmt.Errorf("%s", resp.Status)
	}
}

// serveBlob answers with a blob that is not here. A HEAD request has nothing fetched.
func (m *mirror) serveBlob(w http.ResponseWriter, req *http.Request, repo string, d v1.Hash) error {
	if req.Method == http.MethodHead {
		size, err := m.size(req.Context(), repo, d)
		if err != nil {
			return err
		}
		return serveContent(w, req, "application/octet-stream", d, &sized{size: size})
	}
	f := m.join(repo, d)
	defer f.leave()
	if err := f.started(); err != nil {
		return err
	}
	return serveContent(w, req, "application/octet-stream", d, &sized{size: f.size, fetch: f})
}

// keep makes a repository here have a blob, from what is here or there.
func (m *mirror) keep(repo string, d v1.Hash) error {
	if m.store.mountBlob(repo, "", d) == nil {
		return nil
	}
	f := m.join(repo, d)
	defer f.leave()
	if err := f.wait(); err != nil {
		return err
	}
	return m.store.mountBlob(repo, "", d)
}

// wait waits for the end.
func (f *fetch) wait() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.done && f.err == nil {
		f.news.Wait()
	}
	return f.err
}

// started waits until the size is known, or nothing will come.
func (f *fetch) started() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.file == nil && f.err == nil {
		f.news.Wait()
	}
	if f.file == nil {
		return f.err
	}
	return nil
}

// readAt is file's, but waits for bytes that have not come yet.
func (f *fetch) readAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	for !f.done && f.err == nil && at >= min(f.have, f.size-1) {
		f.news.Wait()
	}
	end, err := f.have, f.err
	if !f.done {
		end = min(f.have, f.size-1)
	}
	f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return f.file.ReadAt(p[:min(int64(len(p)), end-at)], at)
}

// sized is a fetch from the beginning to the end, as http.ServeContent wants to have it.
type sized struct {
	size, at int64
	fetch    *fetch
}

func (s *sized) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	s.at = offset
	return offset, nil
}

func (s *sized) Read(p []byte) (int, error) {
	if s.at >= s.size {
		return 0, io.EOF
	}
	n, err := s.fetch.readAt(p, s.at)
	s.at += int64(n)
	return n, err
}
