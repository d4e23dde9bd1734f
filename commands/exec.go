package commands

import (
	"context"

	"golang.org/x/term"

	"github.com/hullrun/hull/run"
)

func execCommand(s *session) ([]*option, action) {
	var x run.ExecConfig
	var keys string
	w := &wishes{}
	flags := []*option{
		toggle(&x.Detach, "detach,d", "leave the command to itself in the background"),
		toggle(&x.Interactive, "interactive,i", "connect standard input"),
		toggle(&x.TTY, "tty,t", "give the command a terminal"),
		list(&w.env, "env,e", "NAME[=VALUE]", "set a variable; NAME alone takes yours"),
		list(&w.envFiles, "env-file", "FILE", "read variables from a file, a line each"),
		text(&x.User, "user,u", "USER[:GROUP]", "run as that user, a name in the container or a number"),
		text(&x.Workdir, "workdir,w", "DIR", "start in DIR"),
		toggle(&x.Privileged, "privileged", "give all capabilities, and no seccomp filter"),
		opt("timeout", "TIME[,GRACE]", "end the command after that time (status 124): kill it, or after SIGTERM and a grace", setTimeout(&x.Timeout, &x.TimeoutGrace)),
		opt("detach-keys", "KEYS", "keys that leave it running", w.setDetachKeys(&keys)).def("ctrl-p,ctrl-q"),
	}
	return flags, func(ctx context.Context, args []string) error {
		if x.TTY && x.Interactive && !x.Detach && !term.IsTerminal(int(s.in.Fd())) {
			return errNoTerminal()
		}
		if err := w.joinEnv(); err != nil {
			return err
		}
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		if x.DetachKeys, err = s.detachKeys(c, keys); err != nil {
			return err
		}
		x.Args, x.Env, x.SigProxy = args[1:], w.Process.Env, true
		res, err := c.Exec(ctx, x, s.streams())
		return s.ended(res, err, c, x.Timeout)
	}
}
