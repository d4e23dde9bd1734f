package commands

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/hullrun/hull/registry"
)

func registryServeCommand(s *session) ([]*option, action) {
	addr := "127.0.0.1:5000"
	flags := []*option{text(&addr, "addr", "HOST:PORT", "listen there; port 0 takes a free one").def(addr)}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("serve registry: %w", err)
		}
		dir := ""
		if len(args) > 0 {
			dir = args[0]
		}
		fmt.Fprintf(s.out, "Serving a registry on %s\n", l.Addr())
		return registry.Serve(ctx, l, dir)
	}
}
