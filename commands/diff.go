package commands

import (
	"context"
	"fmt"

	"golang.org/x/term"

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
		onTerminal := term.IsTerminal(int(s.out.Fd()))
		for _, c := range changes {
			if onTerminal { // names are the container's own, and bytes as they are only for a program that reads them
				c.Path = oneCell(c.Path)
			}
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
