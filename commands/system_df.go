package commands

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/hullrun/hull/run"
)

// usageRow is what all things of one kind take up, in bytes.
type usageRow struct {
	kind              string
	total, active     int
	size, reclaimable int64
}

func usageRows(u *run.DiskUsage) []usageRow {
	images := usageRow{kind: "Images", total: len(u.ImageIDs), size: u.Images.Total()}
	for _, users := range u.ImageIDs {
		if users > 0 {
			images.active++
		}
	}
	images.reclaimable = images.size - u.Images.Needed(func(id string) bool { return u.ImageIDs[id] > 0 })
	containers := usageRow{kind: "Containers", total: len(u.Containers)}
	for _, c := range u.Containers {
		containers.add(c.Bytes, c.Status.Alive())
	}
	volumes := usageRow{kind: "Local Volumes", total: len(u.Volumes)}
	for _, v := range u.Volumes {
		volumes.add(v.Bytes, v.Links > 0)
	}
	own := usageRow{kind: "Store", total: len(u.Own)} // with it the rows sum up to what du says
	for _, o := range u.Own {
		own.add(o.Bytes, true)
	}
	return []usageRow{images, containers, volumes, {kind: "Build Cache"}, own}
}

func (r *usageRow) add(size int64, active bool) {
	r.size += size
	if active {
		r.active++
	} else {
		r.reclaimable += size
	}
}

func usageListing() listing[usageRow] {
	return listing[usageRow]{
		shown: "Type TotalCount Active Size Reclaimable",
		columns: []column[usageRow]{
			{"Type", "TYPE", func(r usageRow) string { return r.kind }},
			{"TotalCount", "TOTAL", func(r usageRow) string { return fmt.Sprint(r.total) }},
			{"Active", "ACTIVE", func(r usageRow) string { return fmt.Sprint(r.active) }},
			{"Size", "SIZE", func(r usageRow) string { return diskSize(r.size) }},
			{"Reclaimable", "RECLAIMABLE", func(r usageRow) string {
				if r.size == 0 {
					return diskSize(r.reclaimable)
				}
				return fmt.Sprintf("%s (%d%%)", diskSize(r.reclaimable), r.reclaimable*100/r.size)
			}},
		},
	}
}

func systemDfCommand(s *session) ([]*option, action) {
	var verbose bool
	var format string
	flags := []*option{
		toggle(&verbose, "verbose,v", "show each image, container and volume"),
		text(&format, "format", "FORMAT", "'table', 'json', or a Go template"),
	}
	return flags, func(context.Context, []string) error {
		l := usageListing()
		if !verbose {
			if err := l.print(new(bytes.Buffer), format, false, nil); err != nil { // before all files are looked at
				return err
			}
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		u, err := h.DiskUsage()
		if err != nil {
			return err
		}
		if !verbose {
			return l.print(s.out, format, false, usageRows(u))
		}
		return s.verboseUsage(h, u, format)
	}
}

// verboseUsage prints a table for each kind of thing, or runs a template on all that they hold.
func (s *session) verboseUsage(h *run.Host, u *run.DiskUsage, format string) error {
	rows, err := imageRows(h, h.Images.Brief)
	if err != nil {
		return err
	}
	for i := range rows {
		img := *rows[i].Image
		shared, unique := u.Images.Of(img.ID)
		img.Size = shared + unique
		rows[i].Image, rows[i].shared, rows[i].unique = &img, diskSize(shared), diskSize(unique)
	}
	images := imageListing(false, false)
	images.shown = "Repository Tag ID CreatedSince Size SharedSize UniqueSize Containers"
	written := sizes{}
	var list []*run.Container
	for _, c := range u.Containers {
		written[c.Container] = [2]int64{c.Bytes}
		list = append(list, c.Container)
	}
	containers := containerListing(false, written)
	containers.shown = "ID Image Command LocalVolumes Size RunningFor Status Names"
	volumes := volumeUsageListing()
	cache, own := cacheListing(), ownListing()
	if format != "" && format != "table" {
		return printOne(s.out, format, struct{ Images, Containers, Volumes, BuildCache, Store []fields }{
			images.all(rows), containers.all(list), volumes.all(u.Volumes), cache.all(nil), own.all(u.Own),
		})
	}
	var b strings.Builder
	b.WriteString("Images space usage:\n\n")
	images.table(&b, rows)
	fmt.Fprintf(&b, "\nNeeded by no image: %s\n", diskSize(u.Images.Unneeded()))
	b.WriteString("\nContainers space usage:\n\n")
	containers.table(&b, list)
	b.WriteString("\nLocal Volumes space usage:\n\n")
	volumes.table(&b, u.Volumes)
	b.WriteString("\nBuild cache usage: 0B\n\n")
	cache.table(&b, nil)
	b.WriteString("\nStore space usage:\n\n")
	own.table(&b, u.Own)
	fmt.Fprintf(&b, "\nTotal: %s in %s\n", diskSize(u.Total()), h.Root)
	_, err = s.out.WriteString(b.String())
	return err
}

// all are the rows as a template sees them.
func (l *listing[T]) all(rows []T) []fields {
	list := make([]fields, len(rows))
	for i, row := range rows {
		list[i] = l.fields(row)
	}
	return list
}

func volumeUsageListing() listing[run.VolumeSize] {
	return listing[run.VolumeSize]{
		shown: "Name Links Size",
		columns: []column[run.VolumeSize]{
			{"Name", "VOLUME NAME", func(v run.VolumeSize) string { return v.Name }},
			{"Links", "LINKS", func(v run.VolumeSize) string { return fmt.Sprint(v.Links) }},
			{"Size", "SIZE", func(v run.VolumeSize) string { return diskSize(v.Bytes) }},
			{"Driver", "DRIVER", func(v run.VolumeSize) string { return v.Driver }},
			{"Mountpoint", "MOUNTPOINT", func(v run.VolumeSize) string { return v.Mountpoint }},
			{"Labels", "LABELS", func(v run.VolumeSize) string { return joinLabels(v.Labels) }},
			{"Scope", "SCOPE", func(v run.VolumeSize) string { return v.Scope }},
		},
	}
}

// ownListing is of what hull has for itself.
func ownListing() listing[run.OwnSize] {
	return listing[run.OwnSize]{
		shown: "Name Size",
		columns: []column[run.OwnSize]{
			{"Name", "NAME", func(o run.OwnSize) string { return o.Name }},
			{"Size", "SIZE", func(o run.OwnSize) string { return diskSize(o.Bytes) }},
		},
	}
}

// cacheListing is of what building has left, which is nothing: hull does not build yet.
func cacheListing() listing[struct{}] {
	none := func(struct{}) string { return "" }
	return listing[struct{}]{
		shown: "ID CacheType Size CreatedSince LastUsedSince UsageCount Shared",
		columns: []column[struct{}]{
			{"ID", "CACHE ID", none}, {"CacheType", "CACHE TYPE", none}, {"Size", "SIZE", none}, {"CreatedSince", "CREATED", none},
			{"LastUsedSince", "LAST USED", none}, {"UsageCount", "USAGE", none}, {"Shared", "SHARED", none},
		},
	}
}
