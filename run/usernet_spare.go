package run

// spareHelper is a network's process that has been started while the container is being born, which takes as long as that
// process until it can listen. It is not told yet whose network it is going to be, and ends by itself if nobody ever tells it.
type spareHelper struct {
	networks string
	call     helperCall
	started  chan error
}

// spareHelper starts the process that a container's network is going to be, if it has to be started: nil if not.
func (h *Host) spareHelper(n *NetworkConfig) *spareHelper {
	if !h.usesHelper(n) || n.pasta() {
		return nil
	}
	s := &spareHelper{started: make(chan error, 1)}
	if !n.watched() {
		s.networks = h.Networks().Dir
		// Only guessed, as others come and go: one that is missing is started later, and one too many ended.
		if first, err := h.Networks().Find(n.Networks[0].Name); err != nil || isThere(h.helperSocket(first.ID)) {
			return nil
		}
	}
	go func() { s.started <- s.call.start(s.networks) }()
	return s
}

// spareHelper is what has been started beforehand for this start; nil is none, as there is none without a start.
func (s *start) spareHelper() *spareHelper {
	if s == nil {
		return nil
	}
	return s.spare
}

// take gives the process to whoever needs one for the directory networks; false if there is none. It is given once.
func (s *spareHelper) take(networks string) (helperCall, bool) {
	if s == nil || s.started == nil || s.networks != networks {
		return helperCall{}, false
	}
	err := <-s.started
	s.started = nil
	return s.call, err == nil
}

// drop ends the process if nobody has taken it.
func (s *spareHelper) drop() {
	if s == nil {
		return
	}
	if call, ok := s.take(s.networks); ok {
		call.alone = true
		call.socket.Close()
		call.end(true)
	}
}
