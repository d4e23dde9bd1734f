package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
)

// interruptible ends the context when the user presses Ctrl-C or hull is asked to end, for verbs that have no container
// to pass signals to. A second signal ends hull at once, and so does time: a read of a silent pipe takes no context. What a
// hull that ends like this leaves behind, the next one settles.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	context.AfterFunc(ctx, func() {
		stop()
		select {
		case <-ended:
		case <-time.After(interruptPatience):
			fmt.Fprintln(os.Stderr, "hull: interrupted")
			os.Exit(130)
		}
	})
	return ctx, sync.OnceFunc(func() { close(ended); stop() })
}

// interruptPatience is how long a verb may take to put things in order once it was interrupted.
const interruptPatience = 5 * time.Second

// fetching shows on w how an image comes: begin is printed before the first layer is heard of, with the reference. done
// has to be called when no more will come, and may be called again.
func fetching(w *os.File, quiet bool, begin func(registry.Reference)) (f run.Fetch, done func()) {
	if quiet {
		return run.Fetch{}, func() {}
	}
	var p *progress // made late: most calls have nothing to show
	f.Begin = begin
	f.Progress = func(e layers.Event) {
		if p == nil {
			p = newProgress(w)
		}
		p.event(e)
	}
	return f, func() {
		p.close()
		p = nil
	}
}

// pullingFrom is Docker's line before the layers.
func pullingFrom(ref registry.Reference) string {
	what := ref.Tag
	if ref.Digest != "" {
		what = ref.String()
	}
	return what + ": Pulling from " + ref.Path
}

type pullOptions struct {
	all, quiet, platforms bool
	platform              string
}

func pullCommand(s *session) ([]*option, action) {
	o := pullOptions{platform: os.Getenv("DOCKER_DEFAULT_PLATFORM")}
	flags := []*option{
		toggle(&o.all, "all-tags,a", "pull every tag of the repository"),
		toggle(&o.quiet, "quiet,q", "print nothing but the image's ID"),
		toggle(&o.platforms, "all-platforms", "fetch what an index has for other platforms, too, for push to send all of it"),
		text(&o.platform, "platform", "OS[/ARCH[/VARIANT]]", "choose among an image's platforms"),
	}
	flags = append(flags, s.sourceFlags()...)
	flags = append(flags, later("is not known yet; hull's config file names registries without TLS, and Docker's the logins",
		"tls-verify", "creds", "policy", "retry")...)
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		h, err := s.host()
		if err != nil {
			return err
		}
		if o.all {
			err = s.pullAll(ctx, h, args[0], o)
		} else {
			err = s.pull(ctx, h, args[0], o)
		}
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: fmt.Errorf("pull %q: interrupted", args[0])}
		}
		return err
	}
}

// pullAll pulls each tag that the registry lists.
func (s *session) pullAll(ctx context.Context, h *run.Host, name string, o pullOptions) error {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return err
	}
	if ref.Digest != "" || strings.HasSuffix(name, ":"+ref.Tag) {
		return usageError(fmt.Sprintf("pull %q: tag can't be used with --all-tags/-a", name))
	}
	client, err := h.Client()
	if err != nil {
		return err
	}
	tags, err := client.Tags(ctx, ref)
	if err != nil {
		return err
	}
	var failed []error
	for _, tag := range tags {
		if err := s.pull(ctx, h, name+":"+tag, o); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// pull brings one image, and says on standard output what docker pull says there.
func (s *session) pull(ctx context.Context, h *run.Host, name string, o pullOptions) error {
	f, done := fetching(s.out, o.quiet, func(ref registry.Reference) {
		if ref.Tag == "latest" && ref.Digest == "" && !strings.HasSuffix(name, ":latest") {
			fmt.Fprintln(s.out, "Using default tag: latest")
		}
		fmt.Fprintln(s.out, pullingFrom(ref))
	})
	f.Platform, f.All = o.platform, o.platforms
	pulled, err := h.Pull(ctx, name, f)
	done()
	if err != nil {
		return err
	}
	if o.quiet {
		fmt.Fprintln(s.out, pulled.ID)
		return nil
	}
	// An archive may hold an image without a name.
	familiar, full := pulled.ID, pulled.ID
	if pulled.Ref.Path != "" {
		familiar, full = pulled.Ref.Familiar(), pulled.Ref.String()
	}
	signed := ""
	for _, k := range pulled.Signers {
		signed += "Signed: by " + k.Name + "\n"
	}
	status := "Image is up to date for "
	if pulled.Fresh {
		status = "Downloaded newer image for "
	}
	_, err = fmt.Fprintf(s.out, "Digest: %s\n%sStatus: %s%s\n%s\n", cmp.Or(pulled.Named, pulled.Digest), signed, status, familiar, full)
	return err
}
