// Package commands is hull's command line: the words that people type, read as Docker reads them, and turned into calls.
//
// Each verb is a row of the table in table.go and a file of its own: its flags, and one function that does the work by
// calling package run, layers or registry. Nothing below this package knows a flag, a terminal's colours or an exit status.
package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// session is one call of hull: its streams, and what was said before the verb.
type session struct {
	in, out, err *os.File
	// root is where images and containers are kept, "" for the default; config is Docker's configuration directory, likewise.
	root, config string
	debug        bool
	logLevel     string
	version      bool
	// daemon notes that flags for reaching Docker's daemon were given.
	daemon bool
	// offline is the flag; HULL_OFFLINE in the environment does the same.
	offline bool
	// locked is the flag; HULL_LOCKED in the environment does the same.
	locked bool
	// verify names public keys, by one of which images must be signed.
	verify []string
}

// action is what a verb does with the words that are no flags.
type action func(ctx context.Context, args []string) error

// verb is a row of the table of commands.
type verb struct {
	// names are all spellings, "|" between them, the one shown first: "images|image ls|image list".
	names string
	// args says what follows the flags, as help shows it; min and max bound how many words that is, max -1 not at all.
	args     string
	min, max int
	// usage is a line on what it does; group a heading in the list of commands.
	usage, group string
	// ordered verbs take no flags after the first word that is none: the rest belongs to the container's command.
	ordered bool
	// setup makes the flags and the action that reads what they leave behind. Only the verb that is called pays for its own.
	setup func(*session) ([]*option, action)
}

// name is the spelling shown.
func (v *verb) name() string {
	name, _, _ := strings.Cut(v.names, "|")
	return name
}

// Main runs hull with os.Args' words and returns the exit status. It prints whatever went wrong on stderr.
func Main(ctx context.Context, args []string, stdin, stdout, stderr *os.File) int {
	s := &session{in: stdin, out: stdout, err: stderr}
	return report(stderr, s.run(ctx, args[1:]))
}

func (s *session) run(ctx context.Context, args []string) error {
	if completing(args) {
		return s.complete(ctx, args)
	}
	global, err := splitArgs(args, s.globals(), true)
	if errors.As(err, new(errHelp)) {
		return s.help(nil)
	}
	if err != nil {
		return hint(err, "")
	}
	if len(global.args) == 0 || slices.Contains(global.flags, "--version=true") {
		return s.perform(ctx, global, nil, nil, func(context.Context, []string) error { return s.noVerb() })
	}
	if global.args[0] == "help" {
		return s.help(global.args[1:])
	}
	v, rest, err := findVerb(global.args)
	if err != nil {
		return err
	}
	if v == nil {
		return s.help(global.args[:1])
	}
	return s.verb(ctx, global, v, rest)
}

// verb reads the verb's own words and runs it.
func (s *session) verb(ctx context.Context, global *words, v *verb, rest []string) error {
	known, act := v.setup(s)
	local, err := splitArgs(rest, known, v.ordered)
	if errors.As(err, new(errHelp)) {
		return s.verbHelp(v, known)
	}
	if err != nil {
		return hint(err, v.name())
	}
	return s.perform(ctx, global, v, local, func(ctx context.Context, args []string) error {
		if err := v.count(len(args)); err != nil {
			return err
		}
		return act(ctx, args)
	})
}

// count checks the number of words that are no flags. Docker's status for it is 1, for run too.
func (v *verb) count(n int) error {
	var want string
	switch {
	case v.max == 0 && n > 0:
		want = "accepts no arguments"
	case v.min == v.max && n != v.min:
		want = fmt.Sprintf("requires %d %s", v.min, plural(v.min, "argument"))
	case n < v.min:
		want = fmt.Sprintf("requires at least %d %s", v.min, plural(v.min, "argument"))
	case v.max >= 0 && n > v.max:
		want = fmt.Sprintf("requires at most %d %s", v.max, plural(v.max, "argument"))
	default:
		return nil
	}
	return &ExitError{Code: exitFailed, Err: fmt.Errorf("'hull %s' %s", v.name(), want), Hint: readOn(v.name())}
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// perform lets cli parse what splitArgs has put into order, and run the action. Only flags that occur are handed to it.
func (s *session) perform(ctx context.Context, global *words, v *verb, local *words, act action) error {
	cli.HelpFlag = nil // --help has been seen to, and a flag more costs every look at a name
	app := s.newApp()
	app.Flags = cliFlags(global.used)
	app.Before = func(*cli.Context) error { return s.ready() }
	argv := append([]string{"hull"}, global.flags...)
	run := func(c *cli.Context) error { return act(c.Context, c.Args().Slice()) }
	if v == nil {
		app.Action = run
		return s.parsed(app.RunContext(ctx, argv), global.used, "")
	}
	app.Commands = []*cli.Command{{
		Name: "verb", HideHelp: true, Flags: cliFlags(local.used), Action: run, OnUsageError: keepError,
	}}
	argv = append(append(argv, "verb"), local.argv()...)
	return s.parsed(app.RunContext(ctx, argv), append(global.used, local.used...), v.name())
}

// newApp is the part of the application that is the same for every call.
func (s *session) newApp() *cli.App {
	return &cli.App{
		Name: "hull", HideHelp: true, HideVersion: true,
		DisableSliceFlagSeparator: true,
		Reader:                    s.in, Writer: s.out, ErrWriter: s.err,
		Compiled:       buildTime(),
		OnUsageError:   keepError,
		ExitErrHandler: func(*cli.Context, error) {}, // errors are reported once, in Main
	}
}

func keepError(_ *cli.Context, err error, _ bool) error { return err }

func cliFlags(used []*option) []cli.Flag {
	flags := make([]cli.Flag, len(used))
	for i, o := range used {
		flags[i] = o
	}
	return flags
}

// parsed replaces cli's words for a bad value by the error that the value's own parser gave.
func (s *session) parsed(err error, used []*option, verb string) error {
	if err == nil {
		return nil
	}
	for _, o := range used {
		if o.err != nil {
			return hint(&ExitError{Code: exitUsage, Err: o.failure()}, verb)
		}
	}
	return err
}

// noVerb is hull without a command.
func (s *session) noVerb() error {
	if s.version {
		fmt.Fprintln(s.out, versionLine())
		return nil
	}
	return s.help(nil)
}

// hint adds where to read on to a mistake in the words typed.
func hint(err error, verb string) error {
	var exit *ExitError
	if errors.As(err, &exit) && exit.Hint == "" {
		exit.Hint = readOn(verb)
	}
	return err
}

func readOn(verb string) string {
	if verb != "" {
		verb += " "
	}
	return "Run 'hull " + verb + "--help' for more information"
}

// warn prints a line about something that goes on, but not as asked; --log-level error keeps it back.
func (s *session) warn(format string, args ...any) {
	if s.logLevel == "error" || s.logLevel == "fatal" {
		return
	}
	fmt.Fprintf(s.err, "hull: warning: %s\n", prose(fmt.Sprintf(format, args...)))
}

// globals are the flags before the verb.
func (s *session) globals() []*option {
	daemon := func(string) error { s.daemon = true; return nil }
	flags := append([]*option{
		text(&s.root, "root", "DIR", "keep images and containers in DIR (also HULL_ROOT)"),
		text(&s.config, "config", "DIR", "read logins from DIR (also DOCKER_CONFIG)").def("~/.docker"),
		toggle(&s.debug, "debug,D", "say more about what is done"),
		opt("log-level,l", "LEVEL", "debug, info, warn, error or fatal", s.setLogLevel).def("info"),
		toggle(&s.version, "version,v", "print the version"),
		opt("host,H", "ADDRESS", "", daemon), opt("context,c", "NAME", "", daemon),
		opt("tls", "", "", daemon), opt("tlsverify", "", "", daemon),
		opt("tlscacert", "FILE", "", daemon), opt("tlscert", "FILE", "", daemon), opt("tlskey", "FILE", "", daemon),
	}, s.sourceFlags()...)
	for _, f := range flags {
		f.hidden = f.usage == ""
	}
	return flags
}

// sourceFlags say where images may come from. They stand before the verb, or after one that fetches images.
func (s *session) sourceFlags() []*option {
	return []*option{
		toggle(&s.offline, "offline", "never ask a registry: an image is on this disk, or an error (also HULL_OFFLINE=1)"),
		toggle(&s.locked, "locked", "refuse an image that hull.lock lacks (also HULL_LOCKED=1)"),
		list(&s.verify, "verify", "KEY", "use no image that is not signed by this public key (a file, or env://VARIABLE); of several, by any"),
	}
}

// asked is a flag, or an environment variable that says the same with 1 or true.
func asked(flag bool, variable string) bool {
	set, err := strconv.ParseBool(os.Getenv(variable))
	return flag || err == nil && set
}

func (s *session) setLogLevel(level string) error {
	switch level {
	case "debug", "info", "warn", "error", "fatal":
		s.logLevel = level
		s.debug = s.debug || level == "debug"
		return nil
	}
	return errValue{level, "want debug, info, warn, error or fatal"}
}

// ready runs between the global flags and the verb.
func (s *session) ready() error {
	if s.daemon {
		s.warn("--host, --context and --tls*: ignored: hull has no daemon to talk to")
	} else if host := os.Getenv("DOCKER_HOST"); strings.HasPrefix(host, "tcp://") || strings.HasPrefix(host, "ssh://") {
		s.warn("DOCKER_HOST=%s: ignored: hull has no daemon to talk to", host)
	}
	return nil
}
