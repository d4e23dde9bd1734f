package commands

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/hullrun/hull/registry"
)

func registryServeCommand(s *session) ([]*option, action) {
	addr := "127.0.0.1:5000"
	server := &registry.Server{}
	flags := []*option{
		text(&addr, "addr", "HOST:PORT", "listen there; port 0 takes a free one").def(addr),
		toggle(&server.ReadOnly, "readonly", "refuse what would change anything"),
		text(&server.Mirror, "mirror", "URL", "fetch what is missing from that registry, and keep it"),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		server.Log, server.Upstream.ConfigDir = s.warn, s.config
		if len(args) > 0 {
			server.Dir = args[0]
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return &ExitError{Code: exitFailed, Err: fmt.Errorf("serve registry: %w", err), Hint: "--addr chooses another address, --addr 127.0.0.1:0 a free port."}
		}
		if err != nil {
			return fmt.Errorf("serve registry: %w", err)
		}
		server.Ready = func() { fmt.Fprintf(s.out, "Serving a registry on %s\n", l.Addr()) }
		return server.Serve(ctx, l)
	}
}
