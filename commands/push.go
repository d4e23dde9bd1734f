package commands

import (
	"context"
	"fmt"
)

func pushCommand(s *session) ([]*option, action) {
	var quiet bool
	flags := []*option{toggle(&quiet, "quiet,q", "print nothing but the name")}
	flags = append(flags, later("is not known yet", "!all-tags,a", "platform")...)
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		h, err := s.host()
		if err != nil {
			return err
		}
		ref, img, err := h.Push(ctx, args[0])
		if err != nil {
			if ctx.Err() != nil {
				return &ExitError{Code: 130, Err: fmt.Errorf("push %q: interrupted", args[0])}
			}
			return err
		}
		if quiet {
			fmt.Fprintln(s.out, ref)
			return nil
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		size, err := img.Size()
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "The push refers to repository [%s/%s]\n%s: digest: %s size: %d\n", ref.Domain, ref.Path, ref.Tag, digest, size)
		return nil
	}
}
