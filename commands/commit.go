package commands

import (
	"context"
	"fmt"

	"github.com/hullrun/hull/run"
)

func commitCommand(s *session) ([]*option, action) {
	var wish run.CommitConfig
	pause := true
	flags := []*option{
		text(&wish.Author, "author,a", "NAME", "who made it, such as \"Ann Smith <ann@example.com>\""),
		list(&wish.Changes, "change,c", "INSTRUCTION", "apply a line as in a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, USER, VOLUME, WORKDIR"),
		text(&wish.Message, "message,m", "TEXT", "a line for the image's history"),
		toggle(&wish.NoPause, "no-pause", "let the container run on meanwhile"),
		hide(toggle(&pause, "pause,p", "")),
	}
	return flags, func(ctx context.Context, args []string) error {
		wish.NoPause = wish.NoPause || !pause
		if len(args) == 2 {
			wish.Ref = args[1]
		}
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		img, err := c.Commit(ctx, wish)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, img.ID)
		return nil
	}
}
