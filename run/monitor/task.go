// Package monitor is the small process that stays with a detached container: it keeps the output in a log, serves those
// who attach, has the container's health probed, waits for the end, and then hands over to a whole hull again.
//
// A monitor is a hull that has started its container and replaced itself (execve(2) keeps its children, its locks and its
// process id). Like package ns/early this one imports next to nothing, so that it is initialised before all others and
// never lets them: a whole hull would keep four times the memory for as long as the container runs. That is also why it
// speaks to the kernel in system calls.
//
// Do not use it to decide anything about a container: what to start, when to restart, what to write down is package
// run's business, before and after.
package monitor

import (
	"strconv"
	"syscall"
)

// Task is what a monitor needs to know. Descriptors are open files of this process, -1 for none.
type Task struct {
	// ID and Name of the container, and the process that is its first.
	ID, Name string
	Pid      int
	// Lock is kept open: as long as it is, the container is alive.
	Lock, PidFD int
	// Stdin is our end of the program's input. Stdout and Stderr are those of its outputs. Console is its terminal, in
	// place of all three.
	Stdin, Stdout, Stderr, Console int
	// KeepStdin leaves the program's input open when who has attached is at its end.
	KeepStdin bool
	// Listen is a listening socket for those who attach; Clients have done so already.
	Listen  int
	Clients []Client
	// Log is the path of the log, "" for none. At LogSize bytes (0: never) a new one is begun, and LogFiles are kept.
	// With Journal it goes to the system's journal instead.
	Log      string
	LogSize  int
	LogFiles int
	Journal  bool
	// Probe is the command that probes the container's health; its exit status 1 asks for the next after
	// StartInterval, any other after Interval. Both in ms; an empty Probe means no probes.
	Probe                   []string
	Interval, StartInterval int
	// Limit is how long the program may run in ms, 0 for ever. Then it is killed, or is sent StopSignal, and SIGKILL after
	// LimitGrace ms, if that is not 0.
	Limit, LimitGrace int
	// StopSignal is sent to the program when the monitor is asked to end (SIGTERM), SIGKILL after Grace ms (negative:
	// never).
	StopSignal, Grace int
	// Thaw is a command that lets the program go on if it is paused: it is run when the program is to end, and a frozen one
	// cannot.
	Thaw []string
	// Then is the command that this process becomes when the program has ended. To its words are added: the wait
	// status, Reason, and the descriptors of the clients.
	Then []string
}

// Reasons for an end, as Task.Then gets to know them.
const (
	ReasonNone     = "-"        // the program has ended
	ReasonTimedOut = "timeout"  // its time was up
	ReasonShutdown = "shutdown" // the monitor was asked to end
	ReasonLeft     = "left"     // who stays with the container has gone, or has asked it to end
)

// Client is somebody who has attached: the socket, and the wishes that came over it so far.
type Client struct {
	FD     int
	Wishes byte
}

// Word carries a client over an exec.
func (c Client) Word() string { return strconv.Itoa(c.FD) + ":" + strconv.Itoa(int(c.Wishes)) }

// ReadClient reads such a word.
func ReadClient(word string) (c Client) {
	for i := range word {
		if word[i] == ':' {
			wishes, _ := strconv.Atoi(word[i+1:])
			c.Wishes = byte(wishes)
			word = word[:i]
			break
		}
	}
	c.FD, _ = strconv.Atoi(word)
	return c
}

// Env marks the environment of a process that is to be a monitor.
const Env = "_HULL_MONITOR"

// self is this program, even if its file has been replaced or removed since.
const self = "/proc/self/exe"

// Become replaces this process by the monitor. It must be called on the thread that has made the container's process,
// for the kernel kills that when the thread ends. It returns only with an error.
func (t *Task) Become(env []string) error {
	args, env, keep := t.Heir(env)
	for _, fd := range keep {
		setCloexec(fd, false)
	}
	return syscall.Exec(self, args, env)
}

// Heir is what makes a monitor of another process, with this environment besides: it executes hull with args and env, and the
// descriptors in keep open.
func (t *Task) Heir(environ []string) (args, env []string, keep []int) {
	for _, fd := range t.descriptors() {
		if fd >= 0 {
			keep = append(keep, fd)
		}
	}
	return t.words(), append(settings(), environ...), keep
}

// settings are the environment of a monitor alone: no garbage is made while it runs, and nothing is done at once.
func settings() []string { return []string{Env + "=1", "GOGC=off", "GOMAXPROCS=1"} }

// descriptors are all that cross an exec.
func (t *Task) descriptors() []int {
	list := []int{t.Lock, t.PidFD, t.Stdin, t.Stdout, t.Stderr, t.Console, t.Listen}
	for _, c := range t.Clients {
		list = append(list, c.FD)
	}
	return list
}

// numbers are what is packed into one word, in its order.
func (t *Task) numbers() []*int {
	return []*int{&t.Pid, &t.Lock, &t.PidFD, &t.Stdin, &t.Stdout, &t.Stderr, &t.Console, &t.Listen, &t.LogSize, &t.LogFiles,
		&t.Interval, &t.StartInterval, &t.Limit, &t.StopSignal, &t.Grace, &t.LimitGrace}
}

// words is the command line of a monitor: a title for those who list processes, the numbers, the texts, the commands.
func (t *Task) words() []string {
	var b []byte
	for _, n := range t.numbers() {
		b = append(strconv.AppendInt(b, int64(*n), 10), ' ')
	}
	b = append(strconv.AppendBool(b, t.KeepStdin), ' ')
	b = append(strconv.AppendBool(b, t.Journal), ' ')
	b = append(strconv.AppendInt(b, int64(len(t.Probe)), 10), ' ')
	b = append(strconv.AppendInt(b, int64(len(t.Thaw)), 10), ' ')
	for _, c := range t.Clients {
		b = append(append(b, c.Word()...), ' ')
	}
	list := append([]string{"hull: monitor of " + t.Name, string(b), t.ID, t.Name, t.Log}, t.Probe...)
	return append(append(list, t.Thaw...), t.Then...)
}

// read is the other side of words.
func (t *Task) read(words []string) bool {
	if len(words) < 5 {
		return false
	}
	packed := words[1]
	next := func() (s string) {
		for i := 0; i < len(packed); i++ {
			if packed[i] == ' ' {
				s, packed = packed[:i], packed[i+1:]
				return s
			}
		}
		packed = ""
		return ""
	}
	number := func() int {
		n, _ := strconv.Atoi(next())
		return n
	}
	for _, n := range t.numbers() {
		*n = number()
	}
	t.KeepStdin = next() == "true"
	t.Journal = next() == "true"
	probe, thaw := number(), number()
	for packed != "" {
		t.Clients = append(t.Clients, ReadClient(next()))
	}
	t.ID, t.Name, t.Log = words[2], words[3], words[4]
	if words = words[5:]; probe+thaw > len(words) {
		return false
	}
	t.Probe, words = words[:probe:probe], words[probe:]
	t.Thaw, t.Then = words[:thaw:thaw], words[thaw:]
	return true
}

// init runs before the other packages of hull are initialised, because this package needs nearly none of them.
func init() {
	if _, ok := syscall.Getenv(Env); !ok {
		return
	}
	var t Task
	if t.read(arguments()) {
		newMonitor(&t).run()
	}
	syscall.Exit(125)
}
