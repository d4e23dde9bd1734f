package commands

import "context"

func networkInspectCommand(s *session) ([]*option, action) {
	var format string
	var more bool
	flags := []*option{text(&format, "format,f", "FORMAT", formatUsage), hide(toggle(&more, "verbose,v", ""))}
	return flags, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		return s.inspect(format, args, func(name string) (any, error) { return h.Network(name) })
	}
}
