package cgroups

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A writer puts one setting into the group's file.
type writer func(s *setting) error

// apply writes settings. A limit that cannot be kept gives a warning; a value that the kernel refuses is an error.
func apply(list []setting, write writer) ([]Warning, error) {
	var warnings []Warning
	for i := 0; i < len(list); i++ {
		s := &list[i]
		err := write(s)
		if s.instead != nil && errors.Is(err, unix.ENOENT) {
			err = write(s.instead)
		}
		if errors.Is(err, unix.EINVAL) && s.pair != "" && i+1 < len(list) && list[i+1].pair == s.pair {
			// The kernel compares it with the old value of its partner.
			if write(&list[i+1]) == nil {
				i++
				err = write(s)
			}
		}
		var none unavailable
		switch {
		case err == nil:
		case errors.As(err, &none):
			warnings = warn(warnings, s.flag, none.Error())
		case lacking(err):
			warnings = warn(warnings, s.flag, "this kernel has no "+path.Base(s.file))
		case forbidden(err):
			warnings = warn(warnings, s.flag, err.Error())
		default:
			return warnings, err
		}
	}
	return warnings, nil
}

// must makes an error of warnings, for Update.
func must(warnings []Warning, err error) error {
	if err != nil || len(warnings) == 0 {
		return err
	}
	var lines []string
	for _, w := range warnings {
		lines = append(lines, w.String())
	}
	return errors.New(strings.Join(lines, "\n"))
}
