package commands

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

func topCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		titles, rows, err := c.Top(args[1:])
		if err != nil {
			return err
		}
		return s.print(func(w io.Writer) {
			t := tabwriter.NewWriter(w, 20, 1, 3, ' ', 0) // as docker top
			for _, row := range append([][]string{titles}, rows...) {
				for i := range row {
					row[i] = oneCell(row[i])
				}
				fmt.Fprintln(t, strings.Join(row, "\t"))
			}
			t.Flush()
		})
	}
}
