package registry

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// rateLimit is what a registry says of how many pulls it allows, in the Hub's words for it: "ratelimit-limit: 100;w=21600",
// "ratelimit-remaining: 7;w=21600", w being a time in seconds. See https://docs.docker.com/docker-hub/usage/pulls/.
type rateLimit struct {
	limit, left uint64
	window      time.Duration // 0 where it is not said
}

// readRateLimit reads the headers of an answer; ok is false where they say nothing, or nothing that is understood.
func readRateLimit(h http.Header) (l rateLimit, ok bool) {
	limit, _, ok1 := readQuota(h.Get("Ratelimit-Limit"))
	left, window, ok2 := readQuota(h.Get("Ratelimit-Remaining"))
	return rateLimit{limit, left, window}, ok1 && ok2 && limit > 0
}

// readQuota reads "7;w=21600", or "7" alone.
func readQuota(s string) (n uint64, window time.Duration, ok bool) {
	number, rest, _ := strings.Cut(s, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 31)
	if err != nil {
		return 0, 0, false
	}
	if w, found := strings.CutPrefix(strings.TrimSpace(rest), "w="); found {
		if secs, err := strconv.ParseUint(w, 10, 31); err == nil {
			window = time.Duration(secs) * time.Second
		}
	}
	return n, window, true
}

// scarce tells whether no more than a tenth is left: the time to say so.
func (l rateLimit) scarce() bool { return l.left*10 <= l.limit }

// noteRateLimit says, once for each registry, when few pulls are left. Only a GET of a manifest counts as a pull, so the answer
// to one tells what is left after it.
func (s *session) noteRateLimit(h http.Header) {
	l, ok := readRateLimit(h)
	if !ok || !l.scarce() {
		return
	}
	c := s.c
	c.mu.Lock()
	told := c.limitTold[s.ep.host]
	c.limitTold[s.ep.host] = true
	c.mu.Unlock()
	if told {
		return
	}
	who, hint := "you", ""
	if s.anonymous() {
		who, hint = "this address", "; hull login"+hostWord(s.ep.host)+" raises that"
	}
	images, in := "images", ""
	if l.left == 1 {
		images = "image"
	}
	if l.window > 0 {
		in = " in " + roughly(l.window)
	}
	c.opt.Log("%s lets %s pull %d more %s%s%s", s.ep.host, who, l.left, images, in, hint)
}

// limited adds to the error of an answer 429 when to come back, as far as the registry says it.
func (s *session) limited(resp *http.Response, err error) error {
	if resp.StatusCode != http.StatusTooManyRequests {
		return err
	}
	if wait := retryAfter(resp.Header.Get("Retry-After"), time.Now()); wait > 0 {
		err = fmt.Errorf("%w; it asks to come back in %s", &oneLine{err}, roughly(wait))
	}
	if s.anonymous() {
		err = fmt.Errorf("%w\nhull login%s may raise the limit", &oneLine{err}, hostWord(s.ep.host))
	}
	return problemf(ErrUnavailable, "too many requests: %w", err)
}

// anonymous tells whether the conversation goes on without a login.
func (s *session) anonymous() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.loggedIn
}

// hostWord is a host as login wants it, with a blank before; the Hub needs none.
func hostWord(host string) string {
	if host == defaultDomain {
		return ""
	}
	return " " + host
}

// roughly spells a time for people, in the largest unit that loses less than an hour's, minute's or second's worth of it.
func roughly(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d >= time.Hour && d%time.Hour < time.Minute:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", (d+time.Minute-1)/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}
