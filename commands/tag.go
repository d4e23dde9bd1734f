package commands

import "context"

func tagCommand(s *session) ([]*option, action) {
	return nil, func(ctx context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		return noSuchImage(args[0], h.Tag(ctx, args[0], args[1]))
	}
}
