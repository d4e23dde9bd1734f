package commands

import "context"

func volumeInspectCommand(s *session) ([]*option, action) {
	var format string
	return []*option{text(&format, "format,f", "FORMAT", formatUsage)}, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		return s.inspect(format, args, func(name string) (any, error) { return h.Volume(name) })
	}
}
