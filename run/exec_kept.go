package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/run/monitor"
)

// A program that may outlive the hull that asked for it has a monitor of its own, like a detached container: it is that
// monitor's child, and its terminal is there.
//
//	hull exec -d, -it      monitor
//	starts it -----------> execBegins: joins the container, starts the program
//	       <----- Started  becomes package monitor: terminal, client
//	ends, or stays on      ...
//	                       execEnds: the event, the last word to the client

// execOrder is what the monitor gets to know, by its standard input: the environment may hold what is nobody's business, as
// the words of a command line are.
type execOrder struct {
	Wish ExecConfig
	Size *specs.Box
}

// execKept is Exec under a monitor.
func (c *Container) execKept(ctx context.Context, x ExecConfig, io IO) (Result, error) {
	order, err := json.Marshal(execOrder{x, terminalSize(io)})
	if err != nil {
		return Result{}, err
	}
	words, input := []string{partExec, c.host.Root, c.ID}, bytes.NewReader(order)
	if x.Detach {
		return Result{}, c.spawnMonitor(ctx, words, input, nil, nil)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return Result{}, err
	}
	defer unix.Close(ours)
	o := AttachOptions{Stdin: true, Stdout: true, DetachKeys: x.DetachKeys, NoSigProxy: !x.SigProxy}
	a := &attachment{io: io, options: o, tty: true, tethered: true, fd: ours, left: make(chan struct{})}
	// Said before anybody listens, see RunDetachable.
	err = a.hello()
	if err == nil {
		err = c.spawnMonitor(ctx, words, input, nil, theirs)
	}
	theirs.Close()
	if err != nil {
		return Result{}, err
	}
	return a.follow(ctx, func() (Result, error) {
		return Result{Code: 137}, errors.New("exec: its monitor has ended")
	})
}

// execBegins is the process that execKept makes: args are root and ID, descriptor 4 the report, 5 a client.
func execBegins(args []string) error {
	k := &keeper{report: os.NewFile(4, "report")}
	unix.CloseOnExec(4)
	var clients []monitor.Client
	if isSocket(5) {
		unix.CloseOnExec(5)
		clients = append(clients, monitor.Client{FD: 5})
	}
	err := k.exec(args[0], args[1], clients)
	code := 126
	if coded := (interface{ ExitCode() int })(nil); errors.As(err, &coded) {
		code = coded.ExitCode()
	}
	k.tell(report{Error: err.Error(), Code: code})
	return nil
}

// exec starts the program and becomes its monitor. It returns only if that goes wrong.
func (k *keeper) exec(root, id string, clients []monitor.Client) error {
	var order execOrder
	if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
		return err
	}
	h, err := Open(root)
	if err != nil {
		return err
	}
	h.Warn = func(line string) { k.tell(report{Warning: line}) }
	c, err := h.load(id)
	if err == nil {
		err = c.mayExec()
	}
	if err != nil {
		return startFailure{err, 1}
	}
	e := c.newExecution(order.Wish)
	e.streams = &streams{config: &e.config}
	if err := e.start(context.Background(), order.Size); err != nil {
		return err
	}
	t := &monitor.Task{
		ID: c.ID, Name: c.Name + ": " + e.wish.Args[0], Pid: e.process.WaitPid(), PidFD: e.process.PidFD(), Lock: -1, Listen: -1,
		Stdin: -1, Stdout: -1, Stderr: -1, Console: -1, Clients: clients,
		StopSignal: int(unix.SIGTERM), Grace: 10_000,
		Limit: milliseconds(e.wish.Timeout), LimitGrace: milliseconds(e.wish.TimeoutGrace),
		Then: []string{"hull", partExecEnds, root, id, e.id},
	}
	if e.process.Console != nil {
		t.Console = int(e.process.Console.Fd())
	}
	k.tell(report{Started: true})
	k.release()
	err = t.Become(append(os.Environ(), helperEnv+"="+workMonitor))
	runtime.KeepAlive(e)
	_ = e.process.Signal(unix.SIGKILL)
	_, _ = e.process.Wait()
	return err
}

// execEnds is the process once more when the program has ended: args are those of task.Then, the wait status, the reason,
// and the clients.
func execEnds(args []string) error {
	k := &keeper{}
	k.takeClients(args[5:])
	status := syscall.WaitStatus(number(args[3]))
	res := Result{Code: status.ExitStatus(), TimedOut: args[4] == monitor.ReasonTimedOut}
	switch {
	case res.TimedOut:
		res.Code = timedOutCode
	case status.Signaled():
		res.Code = 128 + int(status.Signal())
	}
	defer k.lastWord(res)
	h, err := Open(args[0])
	if err != nil {
		return err
	}
	state, err := h.read(args[1])
	if err != nil {
		return nil // the container is gone, and with it whom the event is about
	}
	e := execution{Container: &Container{host: h, State: *state}, id: args[2]}
	e.noteEnd(res.Code)
	return nil
}
