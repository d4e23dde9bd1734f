package commands

import (
	"context"
	"fmt"

	"github.com/hullrun/hull/run"
)

func volumeCreateCommand(s *session) ([]*option, action) {
	var c run.VolumeConfig
	var labels []string
	flags := []*option{
		text(&c.Driver, "driver,d", "DRIVER", "local, the only one there is").def("local"),
		opt("opt,o", "KEY=VALUE", "mount something in its place: type=, device=, o= of mount(8)",
			pairs(&c.Options, run.ParseLabel)),
		list(&labels, "label", "KEY=VALUE", "label the volume"),
		hide(text(&c.Name, "name", "NAME", "")), // Docker's old way
	}
	// Clusters of Docker's.
	for _, name := range []string{"availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing", "topology-preferred", "topology-required", "type"} {
		flags = append(flags, hide(opt(name, "VALUE", "", func(string) error {
			s.warn("--%s: ignored: it is for volumes of a cluster", name)
			return nil
		})))
	}
	return flags, func(_ context.Context, args []string) (err error) {
		if len(args) > 0 && c.Name != "" {
			return usageError("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
		}
		if len(args) > 0 {
			c.Name = args[0]
		}
		if c.Labels, err = run.ParseLabels(labels); err != nil {
			return err
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		v, err := h.CreateVolume(c)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, v.Name)
		return err
	}
}
