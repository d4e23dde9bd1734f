package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/hullrun/hull/registry"
)

type loginOptions struct {
	user, password string
	hasPassword    bool
	stdin          bool
}

func loginCommand(s *session) ([]*option, action) {
	var o loginOptions
	flags := []*option{
		text(&o.user, "username,u", "NAME", "log in as NAME"),
		opt("password,p", "TEXT", "the password (others can see it there: better --password-stdin)", func(p string) error {
			o.password, o.hasPassword = p, true
			return nil
		}),
		toggle(&o.stdin, "password-stdin", "read the password from standard input"),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		err := s.login(ctx, strings.Join(args, ""), o)
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: errors.New("login: interrupted")}
		}
		return err
	}
}

// client is for registries alone, without images.
func (s *session) client() (*registry.Client, error) {
	h, err := s.host()
	if err != nil {
		return nil, err
	}
	return h.Client()
}

func (s *session) login(ctx context.Context, server string, o loginOptions) error {
	host, err := registry.ParseHost(server)
	if err != nil {
		return err
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	if err := s.givenPassword(ctx, &o); err != nil {
		return err
	}
	if o.user == "" && !o.hasPassword {
		found, err := client.LoginAgain(ctx, host)
		if found && err == nil {
			fmt.Fprintln(s.out, "Authenticating with existing credentials...\nLogin Succeeded")
			return nil
		}
		if found && !errors.Is(err, registry.ErrUnauthorized) || err != nil && ctx.Err() != nil {
			return err
		}
	}
	if err := s.askLogin(ctx, &o); err != nil {
		return err
	}
	kept, err := client.Login(ctx, host, o.user, o.password)
	if err != nil {
		return err
	}
	if kept.Helper == "" {
		s.warn("the password is stored unencrypted in %q; a credential helper (credsStore in that file) would keep it better", kept.File)
	}
	fmt.Fprintln(s.out, "Login Succeeded")
	return nil
}

// givenPassword takes the password from the command line or standard input, by Docker's rules.
func (s *session) givenPassword(ctx context.Context, o *loginOptions) error {
	if o.hasPassword && !o.stdin {
		s.warn("--password shows the password to everybody on this machine; use --password-stdin")
	}
	if !o.stdin {
		return nil
	}
	if o.hasPassword {
		return errors.New("--password and --password-stdin are mutually exclusive")
	}
	if o.user == "" {
		return errors.New("the --password-stdin option requires --username to be set")
	}
	b, err := during(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(s.in, maxPassword+1)) })
	if err != nil {
		return fmt.Errorf("read password: %w", err)
	}
	if len(b) > maxPassword {
		return fmt.Errorf("read password: it has more than %d bytes", maxPassword)
	}
	o.password, o.hasPassword = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), true
	if o.password == "" {
		return errors.New("password is empty")
	}
	return nil
}

// maxPassword is more than any token is long.
const maxPassword = 1 << 20

// askLogin asks for what is not known yet, at a terminal only.
func (s *session) askLogin(ctx context.Context, o *loginOptions) error {
	if o.user != "" && o.hasPassword {
		return nil
	}
	if !term.IsTerminal(int(s.in.Fd())) {
		return errors.New("cannot perform an interactive login from a non TTY device\ngive --username and --password-stdin")
	}
	if o.user == "" {
		fmt.Fprint(s.out, "Username: ")
		line, err := during(ctx, s.line)
		if err != nil {
			return err
		}
		if o.user = strings.TrimSpace(line); o.user == "" {
			return errors.New("username is empty")
		}
	}
	if o.hasPassword {
		return nil
	}
	return s.askPassword(ctx, o)
}

// askPassword reads a password that the terminal does not show, from before it is asked for.
func (s *session) askPassword(ctx context.Context, o *loginOptions) error {
	fd := int(s.in.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return os.NewSyscallError("ioctl TCGETS", err)
	}
	silent := *before
	silent.Iflag |= unix.ICRNL
	silent.Lflag = silent.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return os.NewSyscallError("ioctl TCSETS", err)
	}
	// Whoever is interrupted wants to see again what he types.
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }()
	fmt.Fprint(s.out, "Password: ")
	// It is only read there: term.ReadPassword would set the terminal too, and when somebody interrupts at once, after us.
	line, err := during(ctx, s.line)
	o.password = strings.TrimRight(line, "\r\n")
	fmt.Fprintln(s.out)
	if err == nil && o.password == "" {
		err = errors.New("password is empty")
	}
	return err
}

// line is a line of standard input, a terminal, which gives one at a time.
func (s *session) line() (string, error) { return bufio.NewReaderSize(s.in, 16).ReadString('\n') }

// during waits for what takes no context, somebody to type or to open the other end of a pipe, or for ctx to end.
func during[T any](ctx context.Context, wait func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		value, err := wait()
		got <- answer{value, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func logoutCommand(s *session) ([]*option, action) {
	return nil, func(ctx context.Context, args []string) error {
		host, err := registry.ParseHost(strings.Join(args, ""))
		if err != nil {
			return err
		}
		client, err := s.client()
		if err != nil {
			return err
		}
		// What a helper had cannot be known, so the words are the same whether there was a login.
		fmt.Fprintf(s.out, "Removing login credentials for %s\n", host)
		return client.Logout(ctx, host)
	}
}
