package commands

import "context"

func renameCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		return c.Rename(args[1])
	}
}
