package monitor

import (
	"syscall"
	"unsafe"
)

// The kernel's words that package syscall lacks, from its uapi headers.
const (
	pollIn  = 0x1
	pollOut = 0x4
	pollHup = 0x10

	sizeofSigset = 8
	efdCloexec   = 0x80000
	efdNonblock  = 0x800
	prSetName    = 15
	tiocswinsz   = 0x5414
	tiocgptpeer  = 0x5441
)

// pollFD is struct pollfd, poll(2).
type pollFD struct {
	fd     int32
	events int16
	got    int16
}

// poll waits for one of fds, at most ms milliseconds, or for ever if ms is negative.
func poll(fds []pollFD, ms int) {
	var ts *syscall.Timespec
	if ms >= 0 {
		ts = &syscall.Timespec{Sec: int64(ms / 1000), Nsec: int64(ms%1000) * 1e6}
	}
	_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)),
		uintptr(unsafe.Pointer(ts)), 0, sizeofSigset, 0)
	if errno != 0 {
		for i := range fds {
			fds[i].got = 0
		}
	}
}

// receive is read for a socket whose other side may have ended without having read all: the kernel says so once
// (ECONNRESET), before it gives what the other side has said at last.
func receive(fd int, b []byte) (int, error) {
	for {
		n, err := read(fd, b)
		if err != syscall.ECONNRESET {
			return n, err
		}
	}
}

// read and write are read(2) and write(2) without the interruptions.
func read(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, b)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func write(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Write(fd, b)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func setCloexec(fd int, on bool) {
	if fd < 0 {
		return
	}
	flag := uintptr(0)
	if on {
		flag = syscall.FD_CLOEXEC
	}
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, flag)
}

// sendSignal is pidfd_send_signal(2).
func sendSignal(pidfd, signal int) {
	_, _, _ = syscall.Syscall6(sysPidfdSendSignal, uintptr(pidfd), uintptr(signal), 0, 0, 0, 0)
}

// setName gives the process a name in place of "exe", which it was executed as.
func setName(name string) {
	b := append([]byte(name), 0)
	_, _, _ = syscall.Syscall6(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0, 0)
}

// setSize gives a terminal a size.
func setSize(console int, rows, columns uint16) {
	size := [4]uint16{rows, columns} // struct winsize, ioctl_tty(2)
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, uintptr(console), tiocswinsz, uintptr(unsafe.Pointer(&size)))
}

// openPeer opens the other end of a terminal, ioctl_tty(2); -1 if that cannot be.
func openPeer(console int) int {
	fd, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(console), tiocgptpeer, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)
	if errno != 0 {
		return -1
	}
	return int(fd)
}

// closeFD closes a descriptor that may be -1, which it is afterwards.
func closeFD(fd *int) {
	if *fd >= 0 {
		syscall.Close(*fd)
	}
	*fd = -1
}

// sysPidfdSendSignal is the same on all architectures.
const sysPidfdSendSignal = 424

// arguments is this process's command line, proc_pid_cmdline(5): package os, which has it, is not initialised yet.
func arguments() (list []string) {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	var all []byte
	for buf := make([]byte, 4096); ; {
		n, err := read(fd, buf)
		if err != nil || n == 0 {
			break
		}
		all = append(all, buf[:n]...)
	}
	begin := 0
	for i, b := range all {
		if b == 0 {
			list = append(list, string(all[begin:i]))
			begin = i + 1
		}
	}
	return list
}
