package usernet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// started is a helper process.
type started struct {
	*exec.Cmd
	socket int // of the first member
	answer *os.File
}

// startHelper starts one, for the process that pidfd stands for. Files are the socket for more members and its directory.
func startHelper(t *testing.T, o Order, pidfd *os.File, files ...*os.File) *started {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	h := &started{Cmd: exec.Command("/proc/self/exe"), socket: pair[0]}
	h.Env = []string{roleEnv + "=helper"}
	h.Stderr = os.Stderr
	h.ExtraFiles = []*os.File{theirs}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		_ = h.Process.Kill()
		_ = h.Wait()
	})
	h.answer = order(t, h.socket, o, pidfd, files...)
	return h
}

// order sends an order, and gives where the answer comes.
func order(t *testing.T, socket int, o Order, pidfd *os.File, files ...*os.File) *os.File {
	t.Helper()
	answer, answerW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Close() })
	o.Network = testNet(o.Network)
	if o.Member.Device.Name == "" {
		o.Member.Device = testDevice()
	}
	if err := SendOrder(socket, o, answerW, pidfd, files...); err != nil {
		t.Fatal(err)
	}
	answerW.Close()
	return answer
}

// begin gives it the cable, and its answer.
func (h *started) begin(t *testing.T, cable *os.File, failure error) Answer {
	t.Helper()
	return begin(t, h.socket, h.answer, cable, failure)
}

func begin(t *testing.T, socket int, answer, cable *os.File, failure error) Answer {
	t.Helper()
	if err := SendLink(socket, cable, failure); err != nil {
		t.Fatal(err)
	}
	unix.Close(socket)
	if cable != nil {
		cable.Close()
	}
	var a Answer
	if err := json.NewDecoder(answer).Decode(&a); err != nil {
		t.Fatal("answer:", err)
	}
	return a
}

// sleeper is a process to have a network for.
func sleeper(t *testing.T) (*exec.Cmd, *os.File) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { f.Close() })
	return cmd, f
}

// TestHelper: a helper is a network until its process ends, and leaves a report.
func TestHelper(t *testing.T) {
	process, pidfd := sleeper(t)
	report := filepath.Join(t.TempDir(), "report.json")
	o := Order{
		Network: Config{Report: report, Mode: ModeAllow},
		Member:  Member{Ports: []Port{{Proto: "tcp", Host: netip.MustParseAddrPort("127.0.0.1:0"), Container: 80}}},
	}
	b := newBox(t)
	h := startHelper(t, o, pidfd)
	a := h.begin(t, b.plug(testDevice()), nil)
	if a.Error != "" || len(a.Ports) != 1 || a.Ports[0].Host.Port() == 0 {
		t.Fatalf("answer: %+v", a)
	}
	l := b.listen("tcp4", ":80")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "inside")
			c.Close()
		}
	}()
	if got, err := request(a.Ports[0].Host, netip.Addr{}, ""); err != nil || got != "inside" {
		t.Errorf("published port: %q, %v", got, err)
	}
	if _, err := b.dial("tcp", netip.AddrPortFrom(serverA, 80)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("under an empty allow-list: %v", err)
	}
	_ = process.Process.Kill()
	_ = process.Wait()
	done := make(chan error, 1)
	go func() { done <- h.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error("the helper ends:", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the helper outlives its process")
	}
	var r Report
	data, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil || len(r.Entries) != 1 || r.Entries[0].To != "198.51.100.1:80" || !r.Entries[0].Refused {
		t.Errorf("report: %s, %v", data, err)
	}
}

// TestHelperFails: what keeps a network from coming up is said by the helper.
func TestHelperFails(t *testing.T) {
	_, pidfd := sleeper(t)
	h := startHelper(t, Order{}, pidfd)
	if a := h.begin(t, nil, errors.New("no device today")); a.Error != "no device today" {
		t.Errorf("answer: %+v", a)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	h = startHelper(t, Order{Member: Member{Ports: []Port{{Proto: "tcp", Host: at, Container: 80}}}}, pidfd)
	var a Answer
	if err := json.NewDecoder(h.answer).Decode(&a); err != nil || !strings.Contains(a.Error, "in use") {
		t.Errorf("answer: %+v, %v", a, err)
	}
	unix.Close(h.socket)
}

// TestHelperKilled: a helper that is killed in the midst of a transfer takes its connections along, those of others not, and
// another takes its place.
func TestHelperKilled(t *testing.T) {
	_, pidfd := sleeper(t)
	b, other := newBox(t), newBox(t)
	ended := make(chan error, 8)
	at := serveTCP(t, serverA, 0, func(c *net.TCPConn) {
		_, err := io.Copy(c, noise(3, 1<<40))
		ended <- err
	})
	small := serveTCP(t, serverB, 0, echoAll)
	h := startHelper(t, Order{}, pidfd)
	if a := h.begin(t, b.plug(testDevice()), nil); a.Error != "" {
		t.Fatal(a.Error)
	}
	h2 := startHelper(t, Order{}, pidfd)
	if a := h2.begin(t, other.plug(testDevice()), nil); a.Error != "" {
		t.Fatal(a.Error)
	}
	conn, err := b.dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	otherConn, err := other.dial("tcp", small)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, conn, 20<<20); err != nil {
		t.Fatal("before:", n, err)
	}
	_ = h.Process.Kill()
	_ = h.Wait()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the server has sent 1 TiB")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server was not told")
	}
	if got, err := talk(otherConn, "unmoved"); err != nil || got != "unmoved" {
		t.Errorf("the connection of another container: %q, %v", got, err)
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h2.Process.Pid)); err == nil {
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "Rss") || strings.HasPrefix(line, "VmRSS") {
				t.Log("the other helper's", strings.TrimSpace(line))
			}
		}
	}
	again := startHelper(t, Order{}, pidfd)
	if a := again.begin(t, b.plug(testDevice()), nil); a.Error != "" {
		t.Fatal(a.Error)
	}
	if c, err := b.dial("tcp", small); err != nil {
		t.Error("with the new helper:", err)
	} else if got, err := talk(c, "again"); err != nil || got != "again" {
		t.Errorf("with the new helper: %q, %v", got, err)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var failed error
	for failed == nil { // the old connection's next word meets one who does not know it
		if _, failed = conn.Write([]byte("hello?")); failed == nil {
			_, failed = io.CopyN(io.Discard, conn, 1<<20)
		}
	}
	if errors.Is(failed, os.ErrDeadlineExceeded) {
		t.Error("the old connection hangs")
	}
}
