package network

import (
	"context"
	"fmt"
)

// Hold has a process answer for the place that Reserve has found, for as long as it lives. It takes the place of Attach in
// user space.
func (s *Networks) Hold(_ context.Context, e *Endpoint, pid int) error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	n, err := s.read(e.Network)
	if err != nil {
		return err
	}
	if mine := n.Endpoints[e.Container]; mine == nil || mine.ID != e.ID {
		return fmt.Errorf("network %s: the place of %s is gone", n.Name, e.Name)
	}
	e.Pid, e.Start = pid, started(pid)
	n.Endpoints[e.Container] = e
	return s.write(n)
}
