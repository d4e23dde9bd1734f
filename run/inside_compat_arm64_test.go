package run

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// compatCall would make a call as a 32-bit program does, which takes a processor that knows such programs.
func compatCall(order) (unix.Errno, error) {
	return 0, fmt.Errorf("calls of 32-bit programs: %w", errors.ErrUnsupported)
}
