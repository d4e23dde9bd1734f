package usernet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The words to a helper, each a message. Text or descriptors go with them.
const (
	orderWord = 'O' // an Order in a file, where the Answer goes, the member's process, and a listening socket with its directory
	linkWord  = '=' // the cable's end
	failWord  = '!' // why there is none
	lackWord  = '?' // the same, with ErrUnavailable
	leaveWord = 'L' // the member's ID
)

// SendOrder asks a helper to take a member in, whose process pidfd stands for. The answer goes to the file that is given for
// it. A helper that has only been started needs the listening socket and its directory, if more members are to come.
func SendOrder(socket int, o Order, answer, pidfd *os.File, more ...*os.File) error {
	fd, err := unix.MemfdCreate("order", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	order := os.NewFile(uintptr(fd), "order")
	defer order.Close()
	if err := json.NewEncoder(order).Encode(o); err != nil {
		return err
	}
	if _, err := order.Seek(0, 0); err != nil {
		return err
	}
	var fds []int
	for _, f := range append([]*os.File{order, answer, pidfd}, more...) {
		fds = append(fds, int(f.Fd()))
	}
	return os.NewSyscallError("sendmsg", unix.Sendmsg(socket, []byte{orderWord}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL))
}

// SendLink hands a helper the cable's end of a member; err, if not nil, goes in its place.
func SendLink(socket int, file *os.File, err error) error {
	if err != nil {
		word := byte(failWord)
		if errors.Is(err, ErrUnavailable) {
			word = lackWord
		}
		return unix.Send(socket, append([]byte{word}, err.Error()...), unix.MSG_NOSIGNAL)
	}
	return unix.Sendmsg(socket, []byte{linkWord}, unix.UnixRights(int(file.Fd())), nil, unix.MSG_NOSIGNAL)
}

// SendLeave takes a member off. When that has been done the helper answers by a message, or by its end if it was the last.
func SendLeave(socket int, id string) error {
	return unix.Send(socket, append([]byte{leaveWord}, id...), unix.MSG_NOSIGNAL)
}

// maxFiles is how many descriptors may come with a word.
const maxFiles = 5

// receive reads a word.
func receive(c *net.UnixConn) (word byte, text string, files []*os.File, err error) {
	msg, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := c.ReadMsgUnix(msg, oob)
	if err != nil {
		return 0, "", nil, err
	}
	cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, "", nil, fmt.Errorf("network helper: %w", err)
	}
	for i := range cmsgs {
		fds, err := unix.ParseUnixRights(&cmsgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			_ = unix.SetNonblock(fd, true) // a cable has to be waited for without a thread; to the others it makes no difference
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	if n == 0 {
		return 0, "", files, nil
	}
	return msg[0], string(msg[1:n]), files, nil
}
