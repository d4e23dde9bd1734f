package layers

import "time"

// HistoryLine is one line of "history".
type HistoryLine struct {
	ID        string // the image ID for the newest line, "" for all others
	Created   time.Time
	CreatedBy string
	Comment   string
	Size      int64 // bytes of the files in the layer, 0 for a line that made none
}

// History tells how an image was made, newest first. The sizes are those of the unpacked layers; an image that is
// not unpacked has zeros. An image whose history names another number of layers than it has gets no sizes either.
func (s *Store) History(img *Image) []HistoryLine {
	sizes := s.layerSizes(img)
	made := 0
	for _, h := range img.Config.History {
		if !h.EmptyLayer {
			made++
		}
	}
	if made != len(sizes) {
		sizes = make([]int64, made)
	}
	lines := make([]HistoryLine, len(img.Config.History))
	layer := 0
	for i, h := range img.Config.History {
		line := HistoryLine{Created: h.Created.Time, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer {
			line.Size = sizes[layer]
			layer++
		}
		lines[len(lines)-1-i] = line
	}
	if len(lines) > 0 {
		lines[0].ID = img.ID
	}
	return lines
}

// layerSizes gives the size of each layer in bytes, lowest first.
func (s *Store) layerSizes(img *Image) []int64 {
	var sizes []int64
	for _, id := range img.DiffIDs {
		var size int64
		if _, facts, err := s.layer(id, s.OneID); err == nil {
			size = facts.Size
		}
		sizes = append(sizes, size)
	}
	return sizes
}
