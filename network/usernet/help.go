package usernet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Answer is what a helper says once: that the network is there, or why not.
type Answer struct {
	Ports []Port `json:",omitempty"`
	Error string `json:",omitempty"`
}

// Descriptors of a helper process, see [Help]: what it is to do as JSON (a [Config]), where its [Answer] goes, the socket on
// which the cable's end comes (SendLink), and the pidfd of the process that the network is for.
const (
	OrderFD = 3 + iota
	AnswerFD
	SocketFD
	ProcessFD
)

// Help is all that a helper process does: it is the network of another process until that one ends.
func Help() error {
	for fd := OrderFD; fd <= ProcessFD; fd++ {
		unix.CloseOnExec(fd)
	}
	debug.SetGCPercent(50) // there is little that lives long, and that should stay little
	answer := os.NewFile(AnswerFD, "answer")
	n, cable, err := begin()
	if err != nil {
		_ = json.NewEncoder(answer).Encode(Answer{Error: err.Error()})
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		waitEnd(ProcessFD)
		cancel()
	}()
	return n.Serve(ctx, cable, func() {
		_ = json.NewEncoder(answer).Encode(Answer{Ports: n.Ports()})
		answer.Close()
	})
}

func begin() (*Network, *os.File, error) {
	order := os.NewFile(OrderFD, "order")
	defer order.Close()
	var c Config
	if err := json.NewDecoder(order).Decode(&c); err != nil {
		return nil, nil, fmt.Errorf("network helper: read order: %w", err)
	}
	n, err := Open(c)
	if err != nil {
		return nil, nil, err
	}
	cable, err := ReceiveLink(SocketFD)
	if err != nil {
		n.Close()
	}
	unix.Close(SocketFD)
	return n, cable, err
}

// waitEnd waits until a process has ended.
func waitEnd(pidfd int) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// reportPause is how long to wait for more before a report is written.
const reportPause = 500 * time.Millisecond

// keepReport writes the report down soon after each change. The result does so for the last time.
func (n *Network) keepReport(ctx context.Context) (last func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-n.policy.report.changed:
			}
			_ = n.writeReport()
			select {
			case <-ctx.Done():
				return
			case <-time.After(reportPause):
			}
		}
	}()
	return func() {
		<-ended
		_ = n.writeReport()
	}
}

// writeReport replaces the file at once, so that who reads it finds it whole.
func (n *Network) writeReport() error {
	r := n.Report()
	if len(r.Entries) == 0 {
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(n.config.Report), ".tmp-"+filepath.Base(n.config.Report))
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, n.config.Report)
}
