package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
)

type pushOptions struct {
	all, quiet bool
	run.PushOptions
}

func pushCommand(s *session) ([]*option, action) {
	var o pushOptions
	flags := []*option{
		toggle(&o.all, "all-tags,a", "push every image of the repository that is here"),
		toggle(&o.quiet, "quiet,q", "print nothing but the name"),
		hide(toggle(new(bool), "disable-content-trust", "")),
		text(&o.Platform, "platform", "OS[/ARCH[/VARIANT]]", "send the image for one platform, not all of an index"),
		toggle(&o.All, "all-platforms", "fail if not all platforms of an index are here"),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		err := s.push(ctx, args[0], o)
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: fmt.Errorf("push %q: interrupted", args[0])}
		}
		return err
	}
}

// push sends one image, or all of a repository, and goes on past one that cannot be sent.
func (s *session) push(ctx context.Context, name string, o pushOptions) error {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return err
	}
	h, err := s.host()
	if err != nil {
		return err
	}
	client, err := h.Client()
	if err != nil {
		return err
	}
	names, tagged := []string{ref.Familiar()}, strings.HasSuffix(name, ":"+ref.Tag)
	switch {
	case o.all && (ref.Digest != "" || tagged):
		return usageError(fmt.Sprintf("push %q: tag can't be used with --all-tags/-a", name))
	case o.all:
		if names, err = h.Tagged(name); err != nil {
			return err
		}
	case !tagged && ref.Digest == "" && !o.quiet:
		fmt.Fprintln(s.out, "Using default tag: latest")
	}
	if !o.quiet {
		fmt.Fprintf(s.out, "The push refers to repository [%s/%s]\n", ref.Domain, ref.Path)
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, s.pushOne(ctx, h, client, name, o))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// pushOne sends one image.
func (s *session) pushOne(ctx context.Context, h *run.Host, client *registry.Client, name string, o pushOptions) error {
	tell, done := sending(s.out, o.quiet)
	o.Progress = tell
	pushed, err := h.Push(ctx, client, name, o.PushOptions)
	done()
	if err != nil {
		return err
	}
	if o.quiet {
		fmt.Fprintln(s.out, pushed.Ref)
		return nil
	}
	fmt.Fprintf(s.out, "%s: digest: %s size: %d\n", pushed.Ref.Tag, pushed.Digest, pushed.Size)
	return nil
}

// sending shows on w how an image goes; done has to be called when no more will.
func sending(w *os.File, quiet bool) (tell func(registry.Sent), done func()) {
	if quiet {
		return nil, func() {}
	}
	p := newProgress(w)
	p.words = pushWords
	return func(e registry.Sent) {
		phase := e.Phase
		if phase == "mounted" {
			phase = mountedFrom + e.From
		}
		p.event(layers.Event{Layer: e.Layer, Index: e.Index, Count: e.Count, Phase: phase, Done: e.Done, Total: e.Total})
	}, p.close
}
