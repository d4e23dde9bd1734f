package commands

import (
	"fmt"

	"golang.org/x/term"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/run"
)

// treeRow is a line of images --tree: a name of an image, or below all its names what it is.
type treeRow struct{ image, id, disk, content, extra string }

// imageTree groups names by the image that they mean, in the order of the first. Below them stands its platform: an image
// here has one, however many it has elsewhere.
func imageTree(h *run.Host, rows []imageRow) []treeRow {
	var tree []treeRow
	done := map[string]bool{}
	for _, first := range rows {
		if done[first.Digest] {
			continue
		}
		done[first.Digest] = true
		whole := treeRow{"", shortDigest(first.ID), diskSize(first.Size), contentSize(h, first.Image), ""}
		if first.containers > 0 {
			whole.extra = "U"
		}
		for _, r := range rows {
			if r.Digest != first.Digest {
				continue
			}
			whole.image = r.repository + ":" + r.tag
			if r.Name == "" {
				whole.image = "<untagged>"
			}
			tree = append(tree, whole)
		}
		platform := first.Platform.String()
		tree = append(tree, treeRow{"└─ " + platform, shortDigest(first.Digest), whole.disk, whole.content, whole.extra})
	}
	return tree
}

// contentSize is the size of an image's layers as they are transferred.
func contentSize(h *run.Host, img *layers.Image) string {
	blobs, err := h.Images.Blobs(img)
	if err != nil {
		return "N/A"
	}
	var size int64
	for _, b := range blobs {
		size += b.Size
	}
	return diskSize(size)
}

// printTree prints it as Docker does, with a word on what the letter means, which is for people and not for pipes.
func (s *session) printTree(tree []treeRow) error {
	l := listing[treeRow]{
		shown: "Image ID DiskUsage ContentSize Extra",
		columns: []column[treeRow]{
			{"Image", "IMAGE", func(r treeRow) string { return r.image }},
			{"ID", "ID", func(r treeRow) string { return r.id }},
			{"DiskUsage", "DISK USAGE", func(r treeRow) string { return r.disk }},
			{"ContentSize", "CONTENT SIZE", func(r treeRow) string { return r.content }},
			{"Extra", "EXTRA", func(r treeRow) string { return r.extra }},
		},
	}
	if term.IsTerminal(int(s.out.Fd())) {
		fmt.Fprintln(s.out, "U: in use by a container")
	}
	return l.print(s.out, "", false, tree)
}
