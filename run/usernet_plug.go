package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network/usernet"
	"github.com/hullrun/hull/ns"
)

// plug has the device made in the container's namespaces, and the cable's end sent by the socket. Unborn is a container whose
// program has not been started.
func (c *Container) plug(target, socket *os.File, d usernet.Device, unborn bool) error {
	if !c.UserNS {
		return plugAsRoot(target, socket, d)
	}
	if unborn { // else it might harm us, see ns.OpenNetwork
		if file, err := plugByFiles(target, d); err == nil {
			return giveLink(socket, file, nil)
		} // else a process in there says why, if it cannot do so either
	}
	device, err := json.Marshal(d)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ids, err := mappedIDs(c.Pid)
	if err != nil {
		return err
	}
	// Of the container's rights it needs those to make a device, and a namespace for the other end of a pair.
	caps := []string{"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"}
	cmd := &ns.Cmd{Join: target, Stdin: socket, Spec: &specs.Spec{
		Process: &specs.Process{
			Args: []string{self, string(device)}, Env: []string{helperEnv + "=" + workPlug}, Cwd: "/",
			User:         specs.User{UID: ids.UIDs[0].ContainerID, GID: ids.GIDs[0].ContainerID},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps},
		},
		Linux: &specs.Linux{
			Namespaces:  []specs.LinuxNamespace{{Type: specs.UserNamespace}, {Type: specs.NetworkNamespace}},
			UIDMappings: ids.UIDs, GIDMappings: ids.GIDs,
		},
	}}
	done := make(chan error, 1)
	go func() { // whose thread the process belongs to
		done <- plugByProcess(cmd)
	}()
	return <-done
}

func plugByProcess(cmd *ns.Cmd) error {
	p, err := cmd.Create()
	if err == nil {
		if err = p.Start(); err == nil {
			var status ns.Status
			if status, err = p.Wait(); err == nil && status.Code() != 0 {
				err = fmt.Errorf("it ended with status %d", status.Code())
			}
		} else {
			_, _ = p.Wait()
		}
	}
	if err != nil {
		return fmt.Errorf("make network device: %w", err)
	}
	return nil
}

// plugAsRoot is for a container in the host's user namespace: a thread of ours may enter its network.
func plugAsRoot(target, socket *os.File, d usernet.Device) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET)
		if err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- plugHere(socket, d)
	}()
	return <-done
}

// plugByFiles makes the device by files that are opened in the namespaces of a process, which spares the start of a program
// in there. The result is the cable's end.
func plugByFiles(target *os.File, d usernet.Device) (*os.File, error) {
	f, err := ns.OpenNetwork(target)
	if err != nil {
		return nil, err
	}
	file, err := usernet.PlugFrom(d, usernet.Files(*f))
	f.Tun, f.Packet = nil, nil // PlugFrom's
	f.Close()
	return file, err
}

// plugHere makes the device where the calling thread is.
func plugHere(socket *os.File, d usernet.Device) error {
	file, err := usernet.Plug(d)
	return giveLink(socket, file, err)
}

// giveLink gives the end of a device's cable to the helper at the other end of the socket, or says why there is none.
func giveLink(socket, file *os.File, err error) error {
	if file != nil {
		defer file.Close()
	}
	if err = usernet.SendLink(int(socket.Fd()), file, err); errors.Is(err, unix.EPIPE) {
		err = nil // the helper has given up already, and says why
	}
	return err
}

// helpPlug is all that the process which makes the device does.
func helpPlug(device string) error {
	var d usernet.Device
	if err := json.Unmarshal([]byte(device), &d); err != nil {
		return err
	}
	return plugHere(os.Stdin, d)
}

// mappedIDs reads the maps of a process's user namespace, user_namespaces(7).
func mappedIDs(pid int) (id Identity, err error) {
	for _, m := range []struct {
		file string
		to   *[]specs.LinuxIDMapping
	}{{"uid_map", &id.UIDs}, {"gid_map", &id.GIDs}} {
		text, err := os.ReadFile(procFile(pid, m.file))
		if err != nil {
			return id, err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 3 {
				*m.to = append(*m.to, specs.LinuxIDMapping{ContainerID: uint32(number(f[0])), HostID: uint32(number(f[1])), Size: uint32(number(f[2]))})
			}
		}
		if len(*m.to) == 0 {
			return id, fmt.Errorf("%s of process %d: empty", m.file, pid)
		}
	}
	return id, nil
}
