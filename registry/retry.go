package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// retryPolicy says how patient to be. The zero value is of no use; [New] sets defaultRetry.
type retryPolicy struct {
	// attempts is how often one request is sent at most, and how often in a row a download may break with less than
	// minProgress bytes gained.
	attempts int
	// base is the wait after the first failure; it doubles up to limit. Half of each wait is random, so that many clients
	// that failed together do not return together.
	base, limit time.Duration
	// longest bounds a Retry-After: a registry that asks for more (the Hub's pull limit asks for hours) gets no second
	// request, and the caller the error.
	longest time.Duration
	// stall is how long the answer may take, and after it each minTrickle bytes.
	stall time.Duration
}

// minProgress is the number of bytes after which a download that broke counts as healthy again.
const minProgress = 64 << 10

// minTrickle is the number of bytes for which a registry gets the time of a stall: with the default, 68 bytes a second. One
// that sends a byte now and then would hold us for years otherwise.
const minTrickle = 4 << 10

func defaultRetry() retryPolicy {
	return retryPolicy{attempts: 6, base: 300 * time.Millisecond, limit: 10 * time.Second, longest: time.Minute, stall: time.Minute}
}

// wait sleeps after the nth failure (counted from 1), or as long as the registry asked. It ends at once, with the
// context's error, when ctx does.
func (p retryPolicy) wait(ctx context.Context, n int, asked time.Duration) error {
	d := p.backoff(n)
	if asked > 0 {
		d = asked
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func (p retryPolicy) backoff(n int) time.Duration {
	d := p.limit
	if n-1 < 20 {
		d = min(p.base<<(n-1), p.limit)
	}
	return d/2 + rand.N(d/2+1)
}

// retryTransport repeats GET and HEAD requests that failed for a reason that may pass, and guards every one of them, and
// the body it brings, against standing still. It sits below authentication and redirects, so that each hop (manifest,
// token, storage) has its own attempts. Requests that change something are passed on once, guarded too; their sender knows
// whether they may be repeated.
type retryTransport struct {
	inner  http.RoundTripper
	policy retryPolicy
	log    func(format string, a ...any)
}

func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return t.once(req, t.policy.stall*commitPatience)
	}
	for n := 1; ; n++ {
		resp, err := t.once(req, t.policy.stall)
		asked, cause := temporary(resp, err)
		if cause == nil || n >= t.policy.attempts || asked > t.policy.longest || req.Context().Err() != nil {
			return resp, err
		}
		if resp != nil {
			// An error's text is short; a connection whose answer was read to its end can serve the next attempt.
			io.CopyN(io.Discard, resp.Body, 64<<10)
			resp.Body.Close()
		}
		t.log("%s %s: %v; trying again (%d of %d)", req.Method, req.URL.Redacted(), cause, n+1, t.policy.attempts)
		if err := t.policy.wait(req.Context(), n, asked); err != nil {
			return nil, err
		}
	}
}

// commitPatience is how much longer than for a byte of a download one waits for the answer to an upload: the registry may
// have to move the blob to where it will stay.
const commitPatience = 5

// once sends a copy of req that ends when the registry stands still.
func (t *retryTransport) once(req *http.Request, stall time.Duration) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	g := newGuard(stall, cancel)
	g.begin()
	resp, err := t.inner.RoundTrip(g.watch(fresh(req.Clone(ctx))))
	g.end(minTrickle) // the answer's first byte earns the body a stall of its own
	if err != nil {
		defer cancel(nil)
		return nil, g.cause(ctx, err)
	}
	// Callers compare and mutate the request they sent, not the copy.
	resp.Request = req
	resp.Body = &guardedBody{ReadCloser: resp.Body, ctx: ctx, guard: g}
	return resp, nil
}

// fresh gives a request its body from the beginning: authentication above sends the same request again with a new token,
// when an old one has run out, and does not see to that.
func fresh(req *http.Request) *http.Request {
	if req.Body == nil || req.GetBody == nil {
		return req
	}
	if body, err := req.GetBody(); err == nil {
		req.Body.Close()
		req.Body = body
	}
	return req
}

// guard cancels a request when it waits too long for too little. The time between waits is the reader's own and does not
// count: a slow disk is no reason to blame the registry.
type guard struct {
	limit  time.Duration
	cancel context.CancelCauseFunc
	timer  *time.Timer

	mu    sync.Mutex    // an answer may come while the request's body is still being read
	left  time.Duration // for the bytes that are still wanting
	got   int
	begun time.Time
}

// stallError is a guard's verdict.
type stallError time.Duration

func (e stallError) Error() string {
	return fmt.Sprintf("nothing, or next to nothing, came for %v", time.Duration(e))
}
func (e stallError) Timeout() bool { return true }

func newGuard(limit time.Duration, cancel context.CancelCauseFunc) *guard {
	g := &guard{limit: limit, left: limit, cancel: cancel}
	g.timer = time.AfterFunc(limit, func() { cancel(stallError(limit)) })
	return g
}

func (g *guard) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun = time.Now()
	g.timer.Reset(g.left)
}

// end is told how many bytes the wait has brought.
func (g *guard) end(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer.Stop()
	g.left -= time.Since(g.begun)
	if g.got += n; g.got >= minTrickle {
		g.left, g.got = g.limit, 0
	}
}

// watch has the guard wait anew whenever the network has taken more of the request's body. Reading the body does not count.
func (g *guard) watch(req *http.Request) *http.Request {
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	req.Body = guardedSource{req.Body, g}
	if again := req.GetBody; again != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			return guardedSource{body, g}, err
		}
	}
	return req
}

type guardedSource struct {
	io.ReadCloser
	guard *guard
}

func (s guardedSource) Read(p []byte) (int, error) {
	s.guard.end(minTrickle) // what was read before has been taken, however slowly
	n, err := s.ReadCloser.Read(p)
	s.guard.begin()
	return n, err
}

// cause replaces the "context canceled" that a guard provokes by the reason.
func (g *guard) cause(ctx context.Context, err error) error {
	if stall := stallError(0); errors.As(context.Cause(ctx), &stall) {
		return stall
	}
	return err
}

type guardedBody struct {
	io.ReadCloser
	ctx   context.Context
	guard *guard
}

func (b *guardedBody) Read(p []byte) (int, error) {
	b.guard.begin()
	n, err := b.ReadCloser.Read(p)
	b.guard.end(n)
	if err != nil && err != io.EOF {
		err = b.guard.cause(b.ctx, err)
	}
	return n, err
}

func (b *guardedBody) Close() error {
	b.guard.timer.Stop()
	err := b.ReadCloser.Close()
	b.guard.cancel(nil) // frees what the context holds
	return err
}

// temporary gives the reason to try again, nil where there is none, and the wait that the registry asks for, 0 where it
// does not ask.
func temporary(resp *http.Response, err error) (asked time.Duration, cause error) {
	if err != nil {
		if retryable(err) {
			return 0, err
		}
		return 0, nil
	}
	switch code := resp.StatusCode; code {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return 0, nil
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
	default:
		if code < 500 {
			return 0, nil
		}
	}
	return retryAfter(resp.Header.Get("Retry-After"), time.Now()), errors.New(resp.Status)
}

// retryAfter reads the header of RFC 9110, 10.2.3: seconds or a date. What it cannot read, and what is past, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if secs, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(secs) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// retryable tells whether the same request may well succeed a moment later: the connection broke or stood still. Nobody
// listening, an unknown name or an untrusted certificate will be the same next time, and people wait for that message.
func retryable(err error) bool {
	var dial *net.OpError
	if errors.Is(err, context.Canceled) || errors.As(err, &dial) && dial.Op == "dial" {
		return false
	}
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	// net/http keeps its copy of HTTP/2 private, so a reset stream and a server that says goodbye show in the text only.
	text := err.Error()
	return strings.Contains(text, "stream error:") || strings.Contains(text, "http2:") || strings.Contains(text, "server closed idle connection")
}
