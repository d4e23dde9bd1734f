package network

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrUnavailable says that this kernel has no networks, or none for this process.
var ErrUnavailable = errors.New("networks cannot be made here")

// needs adds to the kernel's word for what it does not know (EOPNOTSUPP for a kind of interface and for nftables as a whole,
// ENOENT for a part of these, EPROTONOSUPPORT for their socket) or does not let us do what that would be.
func needs(err error, part string) error {
	for _, e := range []unix.Errno{unix.EOPNOTSUPP, unix.ENOENT, unix.EPROTONOSUPPORT, unix.EPERM, unix.EACCES} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: the kernel has no %s, or none for this process%w", err, part, errHidden{ErrUnavailable})
		}
	}
	return err
}
