package commands

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hullrun/hull/layers"
)

func historyListing(human, whole bool) listing[layers.HistoryLine] {
	type line = layers.HistoryLine
	now := time.Now()
	created := column[line]{"CreatedSince", "CREATED", func(l line) string { return ago(l.Created, now) }}
	size := func(l line) string { return diskSize(l.Size) }
	if !human {
		created = column[line]{"CreatedSince", "CREATED AT", func(l line) string { return l.Created.Format(time.RFC3339) }}
		size = func(l line) string { return fmt.Sprint(l.Size) }
	}
	return listing[line]{
		shown: "ID CreatedSince CreatedBy Size Comment", quiet: "ID",
		columns: []column[line]{
			{"ID", "IMAGE", func(l line) string { return cmp.Or(shortImage(l.ID, whole), "<missing>") }},
			created,
			{"CreatedAt", "CREATED AT", func(l line) string { return l.Created.Format(time.RFC3339) }},
			{"CreatedBy", "CREATED BY", func(l line) string {
				by := strings.ReplaceAll(l.CreatedBy, "\t", " ")
				if whole {
					return by
				}
				return ellipsis(by, 45)
			}},
			{"Size", "SIZE", size},
			{"Comment", "COMMENT", func(l line) string { return l.Comment }},
		},
	}
}

func historyCommand(s *session) ([]*option, action) {
	human := true
	var whole, quiet bool
	var format string
	flags := []*option{
		toggle(&human, "human,H", "show sizes and dates for people").def("true"),
		toggle(&quiet, "quiet,q", "print nothing but the IDs"),
		toggle(&whole, "no-trunc", "show whole IDs and commands"),
		text(&format, "format", "FORMAT", listUsage),
		hide(opt("platform", "PLATFORM", "", func(string) error { return nil })), // an image here has one platform
	}
	return flags, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		img, err := h.Images.Lookup(args[0])
		if err != nil {
			return noSuchImage(args[0], err)
		}
		listing := historyListing(human, whole)
		return listing.print(s.out, format, quiet, h.Images.History(img))
	}
}
