package commands

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// The exit statuses of Docker's command line. A container's own status is passed on as it is, a signal as 128 + number.
const (
	exitFailed    = 1   // a verb failed
	exitUsage     = 125 // an unknown flag or a bad value anywhere; anything that kept run from starting the command
	exitCannotRun = 126 // the command exists but cannot be executed
	exitNotFound  = 127 // the command is not in the image
)

// ExitError ends hull with a status of its own.
type ExitError struct {
	// Code is the exit status.
	Code int
	// Err is what is said on standard error; nil says nothing, as when the status is the container's.
	Err error
	// Near is what was most likely meant, in the words of the command line; "" for none.
	Near string
	// Hint is a further paragraph, such as where to read on; "" for none.
	Hint string
}

// Error is the message, "exit status N" where there is none.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap gives the cause, which may be nil.
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode is the status; package run's errors have the same method.
func (e *ExitError) ExitCode() int { return e.Code }

// usageError is a mistake in the words typed: status 125 for every verb.
func usageError(message string) error { return &ExitError{Code: exitUsage, Err: errors.New(message)} }

// codeOf is the status that err asks for anywhere in its chain, or else the one for a failure of this kind.
func codeOf(err error, otherwise int) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return otherwise
}

// report prints err for people and returns the exit status. Each of several joined failures has a line of its own.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() { // else one sentence of several
		code := 0
		for _, e := range joined.Unwrap() {
			code = max(code, report(w, e))
		}
		return code
	}
	var exit *ExitError
	if !errors.As(err, &exit) {
		exit = &ExitError{}
	}
	if exit.Err != nil || exit.Code == 0 {
		fmt.Fprintf(w, "hull: %s\n", prose(strings.TrimRight(err.Error(), "\n")))
	}
	hint := exit.Hint
	if exit.Near != "" {
		hint = "Did you mean '" + exit.Near + "'?\n" + hint
	}
	if hint != "" {
		fmt.Fprintf(w, "\n%s\n", hint)
	}
	return codeOf(err, exitFailed)
}
