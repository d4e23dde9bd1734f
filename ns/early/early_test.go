package early

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"unsafe"
)

// TestLayout: programs cross an exec in memory, so both sides must agree on these sizes.
func TestLayout(t *testing.T) {
	if CallSize != 72 || unsafe.Sizeof(Report{}) != 8 || unsafe.Sizeof(Header{}) != 56 {
		t.Errorf("call %d, report %d, header %d bytes", CallSize, unsafe.Sizeof(Report{}), unsafe.Sizeof(Header{}))
	}
}

// TestFail has a process end with a report, as a child does whose call fails: this binary, resumed by init with a program.
func TestFail(t *testing.T) {
	for _, row := range []struct {
		name string
		call Call
		want Report
	}{
		{"error", Call{Nr: syscall.SYS_CLOSE, Args: [6]uint64{1 << 20}}, Report{Kind: KindFailed, Index: 1, Errno: uint32(syscall.EBADF)}},
		{"other error", Call{Nr: syscall.SYS_CLOSE, Args: [6]uint64{1 << 20}, OnErr: 1, Errno: [3]uint16{1, 2, 3}}, Report{Kind: KindFailed, Index: 1, Errno: uint32(syscall.EBADF)}},
		{"zero", Call{Nr: syscall.SYS_FCNTL, Args: [6]uint64{0, syscall.F_GETOWN}, Flags: Nonzero}, Report{Kind: KindFailed, Index: 1, Errno: uint32(syscall.EPIPE)}},
	} {
		calls := [2]Call{{Nr: 1 << 30}, row.call} // the first is behind us
		h := Header{Calls: uint64(unsafe.Sizeof(Header{})), NCalls: 2, First: 1, Socket: 4}
		h.Size = h.Calls + uint64(unsafe.Sizeof(calls))
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(append((*[unsafe.Sizeof(h)]byte)(unsafe.Pointer(&h))[:], (*[unsafe.Sizeof(calls)]byte)(unsafe.Pointer(&calls))[:]...)); err != nil {
			t.Fatal(err)
		}
		code, report := resume(t, f)
		if got := *(*Report)(unsafe.Pointer(&report[0])); got != row.want || code != 125 {
			t.Errorf("%s: %+v and status %d, want %+v and 125", row.name, got, code, row.want)
		}
	}
}

// resume runs this binary with the program in f, and gives its status and what it writes to descriptor 4.
func resume(t *testing.T, f *os.File) (code int, report [8]byte) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{Env + "=3"}
	cmd.ExtraFiles = []*os.File{f, w}
	_ = cmd.Run()
	w.Close()
	if n, err := r.Read(report[:]); err != nil || n != len(report) {
		t.Errorf("%d bytes of report, %v", n, err)
	}
	return cmd.ProcessState.ExitCode(), report
}

// TestNoProgram: a descriptor without a program ends the process, quietly.
func TestNoProgram(t *testing.T) {
	for _, fd := range []int{1000, 0} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{Env + "=" + strconv.Itoa(fd)}
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 125 || len(out) > 0 {
			t.Errorf("descriptor %d: status %d, %q", fd, code, out)
		}
	}
}
