package run

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// CommitConfig is what is wished of an image made of a container.
type CommitConfig struct {
	// Ref is its name, "" for none.
	Ref             string
	Author, Message string
	// Changes are Dockerfile instructions that change its configuration: see changeConfig.
	Changes []string
	// NoPause lets the container run on while its files are read.
	NoPause bool
}

// Commit makes an image of the container's image and what has changed in its files.
func (c *Container) Commit(ctx context.Context, wish CommitConfig) (*layers.Image, error) {
	opt := layers.CommitOptions{
		Author: wish.Author, Comment: wish.Message, Container: c.ID,
		Warn: func(line string) { c.host.warn("%s", line) },
	}
	var err error
	if opt.Created, err = imageTime(); err != nil {
		return nil, err
	}
	newest, err := sourceDate()
	if err != nil {
		return nil, err
	}
	if !newest.IsZero() {
		opt.Container = "" // another one each time
	}
	if wish.Ref != "" {
		if opt.Name, err = newName(wish.Ref); err != nil {
			return nil, err
		}
	}
	base, _, err := c.imageAndIDs()
	if err != nil {
		return nil, err
	}
	opt.Config = c.imageConfig(base.Config.Config)
	opt.CreatedBy = strings.Join(opt.Config.Cmd, " ")
	if err := changeConfig(&opt.Config, wish.Changes); err != nil {
		return nil, err
	}
	inUse, err := c.host.HoldImages(false)
	if err != nil {
		return nil, err
	}
	var img *layers.Image
	err = c.asItLies(ctx, func(stack layers.Stack) (err error) {
		stack.Newest = newest
		// However this ends, the container must run on.
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
		defer stop()
		if !wish.NoPause && c.Status == Running {
			resume, failed := c.hush()
			if failed != nil {
				return failed
			}
			defer func() { err = errors.Join(err, resume()) }()
			opt.Packed = func() { _ = resume() }
		}
		img, err = c.host.Images.Commit(ctx, base, stack, opt)
		return err
	})
	inUse.Close()
	c.host.KeepBudget()
	if err != nil {
		return nil, err
	}
	c.note("commit", "comment", wish.Message, "imageID", img.ID, "imageRef", wish.Ref)
	return img, nil
}

// hush pauses the container until resume is called, which may be more than once. A container that ends meanwhile is as
// quiet as can be.
func (c *Container) hush() (resume func() error, err error) {
	ended := func(err error) error {
		if err != nil && (c.look() != nil || !c.Status.Alive()) {
			return nil
		}
		return err
	}
	if err := c.Pause(); err != nil {
		return func() error { return nil }, ended(err)
	}
	return sync.OnceValue(func() error { return ended(c.Unpause()) }), nil
}

// imageConfig is the configuration for an image made of the container: its image's with what the user asked for.
func (c *Container) imageConfig(from v1.Config) v1.Config {
	d := describeConfig(&c.State, &from)
	config := v1.Config{
		User: d.User, Env: MergeEnv(from.Env, c.Config.Process.Env...), Cmd: slices.Clone(d.Cmd), Entrypoint: slices.Clone(d.Entrypoint), Volumes: d.Volumes,
		WorkingDir: d.WorkingDir, Labels: d.Labels, ExposedPorts: d.ExposedPorts, StopSignal: d.StopSignal, Shell: slices.Clone(d.Shell),
		Healthcheck: from.Healthcheck,
		// What an image does when another is built on it was done to this one, or will be to none.
	}
	h := c.Config.Health
	if h.Test != nil {
		config.Healthcheck = &v1.HealthConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries,
		}
	}
	return *config.DeepCopy()
}
