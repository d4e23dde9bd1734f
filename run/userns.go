package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/ns"
)

// helperEnv makes hull do one piece of work on files in a user namespace, where it may give them to the caller's
// subordinate ids, instead of reading its command line. Its value is "unpack", "copy", "chown", "remove", "measure" or "files".
const helperEnv = "_HULL_HELPER"

// useSubIDs has layers unpacked and trees removed by somebody who is root among the caller's subordinate ids. Without
// such ids everything belongs to the caller.
func (h *Host) useSubIDs() {
	if !h.rootless {
		return
	}
	h.Images.Packer = h.packAsRoot
	if h.sub = findSubIDs(); h.sub.why != nil {
		h.Images.OneID = true
		return
	}
	h.Images.Unpacker = h.unpackAsRoot
	h.Images.Remover = h.removeAsRoot
}

// helper is the command that does a piece of work as root of a user namespace with all ids.
func (h *Host) helper(work, dir string) (*ns.Cmd, error) {
	id, err := h.ranges()
	if err != nil {
		id = h.oneID() // all that there can be belongs to the caller
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &ns.Cmd{Spec: &specs.Spec{
		Process: &specs.Process{Args: []string{self, dir}, Env: []string{helperEnv + "=" + work}, Cwd: "/"},
		Linux: &specs.Linux{
			Namespaces:  []specs.LinuxNamespace{{Type: specs.UserNamespace}},
			UIDMappings: id.UIDs, GIDMappings: id.GIDs,
		},
	}}, nil
}

// runHelper runs a helper with tar on its stdin, unless it has one already, and gives what it prints. What it says on stderr
// is its error.
func runHelper(cmd *ns.Cmd, tar io.Reader) ([]byte, error) {
	var out, said bytes.Buffer
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close(), outR.Close(), outW.Close())
	}
	if cmd.Stdout, cmd.Stderr = outW, errW; cmd.Stdin == nil {
		cmd.Stdin = inR
	}
	source := &errReader{r: tar}
	copied := make(chan error, 3)
	go func() { _, err := io.Copy(&out, outR); copied <- err }()
	go func() { _, err := io.Copy(&said, errR); copied <- err }()
	p, err := cmd.Create()
	if err == nil {
		if err = p.Start(); err != nil {
			_, _ = p.Wait()
		}
	}
	for _, f := range []*os.File{inR, outW, errW} {
		f.Close()
	}
	if err != nil {
		inW.Close()
		return nil, err
	}
	go func() {
		var err error
		if tar != nil {
			_, err = io.Copy(inW, source)
		}
		inW.Close()
		copied <- err
	}()
	status, err := p.Wait()
	for range 3 {
		if e := <-copied; e != nil && !errors.Is(e, os.ErrClosed) && err == nil && status.Code() == 0 {
			err = e
		}
	}
	outR.Close()
	errR.Close()
	if source.err != nil { // the helper saw no more of it than an early end
		return nil, source.err
	}
	if err == nil && status.Code() != 0 {
		err = errors.New(strings.TrimSpace(said.String()))
	}
	return out.Bytes(), err
}

// errReader remembers what went wrong with reading, so that it is not lost behind what followed from it.
type errReader struct {
	r   io.Reader
	err error
}

func (e *errReader) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}

func (h *Host) unpackAsRoot(_ context.Context, dir string, tar io.Reader, opt layers.UnpackOptions) (*layers.Unpacked, error) {
	cmd, err := h.helper("unpack", dir)
	if err != nil {
		return nil, err
	}
	limits, err := json.Marshal(struct {
		Limits layers.Limits
		Lower  []string
	}{opt.Limits, opt.Lower})
	if err != nil {
		return nil, err
	}
	cmd.Spec.Process.Args = append(cmd.Spec.Process.Args, string(limits))
	out, err := runHelper(cmd, tar)
	if err != nil {
		return nil, err
	}
	var u layers.Unpacked
	if err := json.Unmarshal(out, &u); err != nil {
		return nil, fmt.Errorf("unpack helper: %w", err)
	}
	return &u, nil
}

func (h *Host) removeAsRoot(dir string) error {
	if err := layers.RemoveTree(dir); err == nil {
		return nil // nothing of another id in it, as most often
	}
	cmd, err := h.helper("remove", dir)
	if err != nil {
		return err
	}
	_, err = runHelper(cmd, nil)
	return err
}

// Helper does the work of a helper process, if this is one, and says whether it was. It is called first in main.
func Helper() bool {
	work := os.Getenv(helperEnv)
	if work == "" {
		return false
	}
	os.Unsetenv(helperEnv)
	if err := help(work, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func help(work string, args []string) error {
	switch {
	case work == workMonitor:
		return monitorPart(args)
	case work == workNetwork && len(args) == 1:
		return helpNetwork(args[0])
	case work == workNames && len(args) == 1:
		return helpNames(args[0])
	case work == workPasta:
		return helpPasta(args)
	case work == workPlug && len(args) == 1:
		return helpPlug(args[0])
	case work == "measure" && len(args) == 1:
		var t layers.Tally
		if err := layers.Walk(args[0], t.Add); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(t)
	case work == "files" && len(args) == 1:
		helpFiles(args[0])
		return nil
	case work == "remove" && len(args) == 1:
		return layers.RemoveTree(args[0])
	case work == "copy" && len(args) == 1:
		var order copyOrder
		if err := json.Unmarshal([]byte(args[0]), &order); err != nil {
			return err
		}
		return order.fill(context.Background())
	case work == "chown" && len(args) == 3:
		return chownTree(args[0], number(args[1]), number(args[2]))
	case work == "unpack" && len(args) == 2:
		var opt layers.UnpackOptions
		if err := json.Unmarshal([]byte(args[1]), &opt); err != nil {
			return err
		}
		u, err := layers.Unpack(context.Background(), args[0], os.Stdin, opt)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(u)
	}
	return fmt.Errorf("helper %q: unknown", work)
}
