package commands

import (
	"context"
	"fmt"

	"github.com/hullrun/hull/layers"
)

func diffCommand(s *session) ([]*option, action) {
	var format string
	flags := []*option{text(&format, "format", "FORMAT", listUsage+"; {{.Type}} {{.Path}} if not given")}
	return flags, func(ctx context.Context, args []string) error {
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		changes, err := c.Diff(ctx)
		if err != nil {
			return err
		}
		if format != "" {
			l := diffListing()
			return l.print(s.out, format, false, changes)
		}
		for _, c := range changes {
			fmt.Fprintf(s.out, "%s %s\n", c.Kind, c.Path)
		}
		return nil
	}
}

func diffListing() listing[layers.Change] {
	return listing[layers.Change]{
		shown: "Type Path", quiet: "Path",
		columns: []column[layers.Change]{
			{"Type", "CHANGE TYPE", func(c layers.Change) string { return c.Kind }},
			{"Path", "PATH", func(c layers.Change) string { return c.Path }},
		},
	}
}
