package run

import (
	"encoding/binary"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/run/monitor"
)

// takeClients takes over those who have attached, in the words of the small monitor.
func (k *keeper) takeClients(words []string) {
	for _, word := range words {
		c := monitor.ReadClient(word)
		unix.CloseOnExec(c.FD)
		k.clients = append(k.clients, c)
	}
}

// terminalSize is that of the terminal of the client who was there before the program, as its first words say; nil if
// there is none.
func (k *keeper) terminalSize() *specs.Box {
	if len(k.clients) == 0 {
		return nil
	}
	var b [6]byte // kind, wishes, rows, columns
	n, _, err := unix.Recvfrom(k.clients[0].FD, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil || n < len(b) || b[0] != monitor.KindAttach {
		return nil
	}
	return &specs.Box{Height: uint(binary.LittleEndian.Uint16(b[2:])), Width: uint(binary.LittleEndian.Uint16(b[4:]))}
}

// tethered says whether the container is to end with one of them.
func (k *keeper) tethered() bool {
	return slices.ContainsFunc(k.clients, func(c monitor.Client) bool { return c.Wishes&monitor.Tether != 0 })
}

// abandoned says, while nothing runs, whether somebody to whom the container is tethered has gone or wants its end. What is
// meant for the next program is left where it is.
func (k *keeper) abandoned() bool {
	for i := range k.clients {
		c := &k.clients[i]
		for c.Wishes&monitor.Tether != 0 {
			var b [2]byte
			n, _, err := unix.Recvfrom(c.FD, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if err == unix.EINTR {
				continue
			}
			if err == unix.EAGAIN || n > 0 && (b[0] == monitor.KindStdin || b[0] == monitor.KindEOF) {
				break
			}
			if err != nil || n == 0 || b[0] == monitor.KindSignal && monitor.AsksToEnd(b[1]) {
				return true
			}
			if b[0] == monitor.KindDetach {
				c.Wishes &^= monitor.Tether
			}
			_, _, _ = unix.Recvfrom(c.FD, b[:], unix.MSG_DONTWAIT)
		}
	}
	return false
}

// lastWord tells the clients how it ended.
func (k *keeper) lastWord(res Result) {
	message := exitMessage(res)
	patience := unix.Timeval{Sec: 2} // for one that has not read all yet
	for _, c := range append(k.clients, k.connected()...) {
		_ = unix.SetsockoptTimeval(c.FD, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience)
		for unix.Sendto(c.FD, message, unix.MSG_NOSIGNAL, nil) == unix.EINTR {
			continue
		}
		unix.Close(c.FD)
	}
}

// connected are clients that nobody has taken in yet.
func (k *keeper) connected() (list []monitor.Client) {
	if k.listen == nil {
		return nil
	}
	for {
		fd, _, err := unix.Accept4(int(k.listen.Fd()), unix.SOCK_CLOEXEC)
		if err != nil {
			return list
		}
		list = append(list, monitor.Client{FD: fd})
	}
}
