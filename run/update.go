package run

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes limits, and the restart policy if there is one, of a container that may be running. Only what is set
// in them is changed.
type Update struct {
	Resources specs.LinuxResources
	NanoCPUs  int64
	Restart   *RestartPolicy
}

// Update carries out u. It changes the running container first, so that what is written down is true.
func (c *Container) Update(u Update) error {
	lock, err := c.holdGroup()
	if err == nil {
		defer lock.Close()
		err = c.reread()
	}
	if err != nil {
		return fmt.Errorf("update container %s: %w", c.Name, err)
	}
	merged := c.Config.Limits
	merged.merge(u)
	if err := merged.complete(); err != nil {
		return err
	}
	if c.Status == Running || c.Status == Paused {
		if err := c.updateGroup(&merged, u); err != nil {
			return fmt.Errorf("update container %s: %w", c.Name, err)
		}
	}
	err = c.change(func(s *State) error {
		if u.Restart != nil {
			if s.Config.Lifetime.Remove && u.Restart.Name != "" {
				return fmt.Errorf("update container %s: Restart policy cannot be updated because AutoRemove is enabled for the container", c.Name)
			}
			s.Config.Lifetime.Restart = *u.Restart
		}
		s.Config.Limits = merged
		return nil
	})
	if err == nil {
		c.note("update")
	}
	return err
}

func (c *Container) updateGroup(merged *LimitsConfig, u Update) error {
	r := u.Resources
	if u.NanoCPUs != 0 || r.CPU != nil {
		r.CPU = merged.Resources.CPU
	}
	if r.Memory != nil {
		r.Memory = merged.Resources.Memory // with the limit on swap that follows from it
	}
	if r.Memory == nil && r.CPU == nil && r.Pids == nil && r.BlockIO == nil {
		return nil
	}
	g, err := c.needGroup()
	if err != nil {
		return err
	}
	if g == nil {
		return errors.New("no control group can be made for it here")
	}
	defer g.Close()
	if err := g.Update(&r); err != nil {
		return err
	}
	return c.change(func(s *State) error { // on version 1 the update may have added hierarchies
		s.Cgroups = g.Paths()
		return nil
	})
}

// merge lays new limits over the old ones.
func (l *LimitsConfig) merge(u Update) {
	from, to := &u.Resources, &l.Resources
	if m := from.Memory; m != nil {
		old := specs.LinuxMemory{}
		if to.Memory != nil {
			old = *to.Memory
		}
		implied := impliedSwap(&old)
		set(&old.Limit, m.Limit)
		if m.Limit != nil && m.Swap == nil && implied {
			old.Swap = nil // it follows again
		}
		set(&old.Swap, m.Swap)
		set(&old.Reservation, m.Reservation)
		to.Memory = &old
	}
	if c := from.CPU; c != nil || u.NanoCPUs != 0 {
		cpu := specs.LinuxCPU{}
		if to.CPU != nil {
			cpu = *to.CPU
		}
		if c != nil {
			set(&cpu.Shares, c.Shares)
			set(&cpu.Quota, c.Quota)
			set(&cpu.Period, c.Period)
			if c.Cpus != "" {
				cpu.Cpus = c.Cpus
			}
			if c.Mems != "" {
				cpu.Mems = c.Mems
			}
		}
		if u.NanoCPUs != 0 {
			l.NanoCPUs, cpu.Quota, cpu.Period = u.NanoCPUs, nil, nil
		}
		to.CPU = &cpu
	}
	if from.Pids != nil {
		to.Pids = from.Pids
	}
	if b := from.BlockIO; b != nil && b.Weight != nil {
		block := specs.LinuxBlockIO{}
		if to.BlockIO != nil {
			block = *to.BlockIO
		}
		block.Weight = b.Weight
		to.BlockIO = &block
	}
}

func set[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}
