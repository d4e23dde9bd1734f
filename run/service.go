package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// There is no daemon to start containers after a reboot. Who wants that has the machine's init do it: a unit of systemd's
// that calls [Host.StartWanted] at the start, and [Host.Shutdown] at the end.

// unitName is the unit's file name.
const unitName = "hull.service"

// Service is a unit of systemd's: the machine's as root, else one of the user's own manager.
type Service struct {
	Program, Root string // absolute paths of hull and of its root directory
	// Dir is where the unit's file lies; Target is the target that starts it.
	Dir, Target string
	User        bool
}

// Service describes the unit for this host.
func (h *Host) Service() (*Service, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &Service{Program: program, Root: h.Root, Dir: "/etc/systemd/system", Target: "multi-user.target"}
	if h.rootless {
		config, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("find the directory of systemd's user units: %w", err)
		}
		s.User, s.Dir, s.Target = true, filepath.Join(config, "systemd/user"), "default.target"
	}
	return s, nil
}

// Unit is the text of the unit, systemd.service(5). The monitors stay in its cgroup, which is delegated to them.
func (s *Service) Unit() string {
	after := ""
	if !s.User {
		after = "After=local-fs.target network-online.target\nWants=network-online.target\n"
	}
	call := quoteUnit(s.Program) + " --root " + quoteUnit(s.Root) + " system service "
	return "[Unit]\nDescription=Containers of hull that start by themselves\n" + after +
		"\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=" + call + "start\nExecStop=" + call + "stop\n" +
		"KillMode=mixed\nTimeoutStopSec=90\nDelegate=yes\n" +
		"\n[Install]\nWantedBy=" + s.Target + "\n"
}

// quoteUnit spells a word of a command line in a unit, systemd.syntax(7): % and $ would be replaced.
func quoteUnit(word string) string {
	word = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(word)
	if strings.ContainsAny(word, " \t'\"\\;") {
		return `"` + word + `"`
	}
	return word
}

// errNoSystemd says what to do where systemd does not run.
func (s *Service) errNoSystemd() error {
	return fmt.Errorf("install service: systemd does not run this machine\nhave its start-up run this as %s, in a line of crontab(5) that begins with @reboot, say:\n    %s --root %s system service start",
		map[bool]string{true: "this user", false: "root"}[s.User], s.Program, s.Root)
}

// Install writes the unit and has it started at each boot. It says what else is needed. Without systemd it is an error
// that says what to do instead.
func (s *Service) Install() (notes []string, err error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil { // sd_booted(3)
		return nil, s.errNoSystemd()
	}
	wants := filepath.Join(s.Dir, s.Target+".wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return nil, fmt.Errorf("install service: %w", err)
	}
	unit := filepath.Join(s.Dir, unitName)
	if err := os.WriteFile(unit+".new", []byte(s.Unit()), 0o644); err != nil {
		return nil, fmt.Errorf("install service: %w", err)
	}
	if err := os.Rename(unit+".new", unit); err != nil {
		return nil, fmt.Errorf("install service: %w", err)
	}
	// What systemctl enable does; that program need not be there.
	if err := os.Symlink(unit, filepath.Join(wants, unitName)); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("install service: %w", err)
	}
	notes = append(notes, "wrote "+unit)
	if note := s.reload(); note != "" {
		notes = append(notes, note)
	}
	if s.User {
		notes = append(notes, "containers start when you log in; for a start at boot let an administrator run: loginctl enable-linger "+os.Getenv("USER"))
	}
	return notes, nil
}

// Remove takes the unit away again. Containers that run are left alone.
func (s *Service) Remove() (notes []string, err error) {
	unit := filepath.Join(s.Dir, unitName)
	_ = os.Remove(filepath.Join(s.Dir, s.Target+".wants", unitName))
	if err := os.Remove(unit); err != nil {
		return nil, fmt.Errorf("remove service: %w", err)
	}
	notes = append(notes, "removed "+unit)
	if note := s.reload(); note != "" {
		notes = append(notes, note)
	}
	return notes, nil
}

// reload has a running systemd read its units again.
func (s *Service) reload() (note string) {
	args := []string{"daemon-reload"}
	if s.User {
		args = append([]string{"--user"}, args...)
	}
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		return fmt.Sprintf("systemd sees it at the next boot (systemctl %s: %v %s)", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return ""
}

// StartWanted starts the containers whose restart policy wants them to run after a reboot: always, unless-stopped if
// nobody stopped them, on-failure if they failed (moby, daemon.restore). It returns the names of those it started.
func (h *Host) StartWanted(ctx context.Context) (names []string, err error) {
	list, err := h.List()
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, c := range list {
		if c.Status.Alive() || c.Status == Created || !c.wanted() {
			continue
		}
		if err := c.Start(ctx); err != nil {
			failed = append(failed, fmt.Errorf("start container %s: %w", c.Name, err))
			continue
		}
		names = append(names, c.Name)
	}
	return names, errors.Join(failed...)
}

// wanted says whether the policy of a container that does not run wants it to.
func (c *Container) wanted() bool {
	switch c.Config.Lifetime.Restart.Name {
	case "always":
		return true
	case "unless-stopped":
		return !c.Stopped
	case "on-failure":
		return !c.Stopped && c.ExitCode != 0
	}
	return false
}

// Shutdown ends all detached containers as at the end of the machine: they are asked to stop, and nothing notes that they
// were stopped by hand. It returns when they have ended.
func (h *Host) Shutdown() (names []string, err error) {
	list, err := h.List()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if !c.Detached || !c.Status.Alive() || startTime(c.Monitor) != c.MonitorStart {
			continue
		}
		fd, err := unix.PidfdOpen(c.Monitor, 0)
		if err != nil {
			continue
		}
		if startTime(c.Monitor) == c.MonitorStart && unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0) == nil {
			names = append(names, c.Name)
		}
		unix.Close(fd)
	}
	for _, c := range list {
		if c.Detached && c.Status.Alive() {
			_ = c.settle()
		}
	}
	return names, nil
}
