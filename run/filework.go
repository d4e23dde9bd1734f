package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/ns"
)

// fileWork is one piece of work on the files of a container, whose owners may be others than the caller.
type fileWork struct {
	// Do is "pack" or "place" (cp), "renew" (connect), "export", "changes" (commit) or "diff".
	Do string
	// Path is in the container, Name what a packed tree is called. JSON would spoil names that are no UTF-8.
	Path, Name []byte              `json:",omitempty"`
	Tree       layers.TreeOptions  // for pack
	Place      layers.PlaceOptions // for place
	Renew      []renewal           `json:",omitempty"` // for renew
	Stack      layers.Stack        // for the others

	as *Identity // whose files they are, in a container that runs with ids of its own: nobody else can make any there
}

// do performs the work. root is the root directory of the container, for cp; stream is what the work reads or writes.
func (w *fileWork) do(ctx context.Context, root, stream *os.File, warn func(string)) error {
	switch w.Do {
	case "pack":
		w.Tree.Name, w.Tree.Warn = string(w.Name), warn
		return layers.PackTree(ctx, stream, root, string(w.Path), w.Tree)
	case "place":
		w.Place.Root, w.Place.Warn = root, warn
		return layers.Place(ctx, string(w.Path), stream, w.Place)
	case "renew":
		var errs []error
		for i := range w.Renew {
			errs = append(errs, w.Renew[i].do(root))
		}
		return errors.Join(errs...)
	case "export":
		return layers.PackMerged(ctx, stream, w.Stack, warn)
	case "changes":
		return layers.PackChanges(ctx, stream, w.Stack, warn)
	case "diff":
		changes, err := layers.Diff(w.Stack)
		if err != nil {
			return err
		}
		out := bufio.NewWriter(stream)
		for _, c := range changes {
			fmt.Fprintf(out, "%s%s\x00", c.Kind, c.Path)
		}
		return out.Flush()
	}
	return fmt.Errorf("work %q: unknown", w.Do)
}

// files has work done by somebody who may do anything with the container's files, and nothing beyond: root does it
// itself; for anybody else it is a helper who is root of a user namespace.
func (h *Host) files(ctx context.Context, w *fileWork, root, stream *os.File) error {
	if w.as != nil {
		return h.filesAs(ctx, w, root, stream)
	}
	if !h.rootless {
		return w.do(ctx, root, stream, func(line string) { h.warn("%s", line) })
	}
	id, err := h.storageIDs()
	if err != nil {
		return err
	}
	args, err := json.Marshal(w)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	said, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	defer tell.Close()
	p, err := startHelper(&ns.Cmd{
		Spec: &specs.Spec{
			Process: &specs.Process{Args: []string{self, string(args)}, Env: []string{helperEnv + "=files"}, Cwd: "/"},
			Linux: &specs.Linux{
				Namespaces:  []specs.LinuxNamespace{{Type: specs.UserNamespace}},
				UIDMappings: id.UIDs, GIDMappings: id.GIDs,
			},
		},
		Stdin: root, Stdout: stream, Stderr: tell,
	})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Signal(unix.SIGKILL) })
	defer stop()
	tell.Close()
	failure := h.listen(said)
	status, err := p.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case failure != nil || err != nil:
		return errors.Join(failure, err)
	case status.Signal() == unix.SIGPIPE:
		return unix.EPIPE
	case status.Code() != 0:
		return fmt.Errorf("helper: exit status %d", status.Code())
	}
	return nil
}

// filesAs has work done by a helper with a container's ids. To those the way to hull's own path may be closed, but never that
// to what it runs.
func (h *Host) filesAs(ctx context.Context, w *fileWork, root, stream *os.File) error {
	args, err := json.Marshal(w)
	if err != nil {
		return err
	}
	said, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	defer tell.Close()
	one := func(m []specs.LinuxIDMapping) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: int(m[0].ContainerID), HostID: int(m[0].HostID), Size: int(m[0].Size)}}
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", string(args))
	cmd.Args[0], cmd.Env, cmd.Dir = "hull", []string{helperEnv + "=files"}, "/"
	cmd.Stdin, cmd.Stderr = root, tell
	if stream != nil {
		cmd.Stdout = stream
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: one(w.as.UIDs), GidMappings: one(w.as.GIDs), GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start helper: %w", err)
	}
	tell.Close()
	failure := h.listen(said)
	err = cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var status *exec.ExitError
	switch {
	case failure != nil:
		return failure
	case errors.As(err, &status) && status.Sys().(syscall.WaitStatus).Signal() == unix.SIGPIPE:
		return unix.EPIPE
	}
	return err
}

// storageIDs are those that the files of containers have: the caller's is root's.
func (h *Host) storageIDs() (Identity, error) {
	if h.Images.OneID {
		return h.oneID(), nil
	}
	return h.ranges()
}

func startHelper(cmd *ns.Cmd) (*ns.Process, error) {
	p, err := cmd.Create()
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		_, _ = p.Wait()
		return nil, err
	}
	return p, nil
}

// word is a line of JSON that a helper says on its standard error.
type word struct {
	Warning string     `json:",omitempty"`
	Failure string     `json:",omitempty"`
	Errno   unix.Errno `json:",omitempty"` // that is in the failure
}

// listen passes warnings on until the helper is silent, and gives its error.
func (h *Host) listen(said io.Reader) error {
	var failure error
	lines := bufio.NewScanner(said)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var w word
		switch err := json.Unmarshal(lines.Bytes(), &w); {
		case err != nil: // a crash, line by line
			h.warn("helper: %s", lines.Text())
		case w.Failure != "":
			failure = helperError{w.Failure, w.Errno}
		default:
			h.warn("%s", w.Warning)
		}
	}
	return failure
}

// helperError is a helper's error.
type helperError struct {
	text  string
	errno unix.Errno
}

func (e helperError) Error() string { return e.text }

func (e helperError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// helpFiles is the helper.
func helpFiles(args string) {
	say := json.NewEncoder(os.Stderr)
	var w fileWork
	err := json.Unmarshal([]byte(args), &w)
	if err == nil {
		err = w.do(context.Background(), os.Stdin, os.Stdout, func(line string) { _ = say.Encode(word{Warning: line}) })
	}
	if err == nil {
		return
	}
	failure := word{Failure: err.Error()}
	errors.As(err, &failure.Errno)
	_ = say.Encode(failure)
	os.Exit(1)
}

// output has work done whose stream is its result, and hands that to read as it comes. An error of read's ends the work.
func (h *Host) output(ctx context.Context, w *fileWork, root *os.File, read func(io.Reader) error) error {
	r, to, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	worked := make(chan error, 1)
	go func() {
		err := h.files(ctx, w, root, to)
		to.Close()
		worked <- err
	}()
	readErr := read(r)
	r.Close()
	if err := <-worked; err != nil && !(readErr != nil && errors.Is(err, unix.EPIPE)) {
		return err // what it wrote was cut short, so that is why reading failed, if it did
	}
	return readErr
}

// packAsRoot is layers.PackChanges in a helper.
func (h *Host) packAsRoot(ctx context.Context, to io.Writer, stack layers.Stack, _ func(string)) error {
	return h.output(ctx, &fileWork{Do: "changes", Stack: stack}, nil, func(r io.Reader) error {
		_, err := io.Copy(to, r)
		return err
	})
}
