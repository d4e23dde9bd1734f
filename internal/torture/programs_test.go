package torture

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// programs run in containers. Their arguments are what follows the rig's root directory.
var programs = map[string]func(args []string) error{
	"sleep":   sleepProgram,
	"su":      suProgram,
	"chatter": chatterProgram,
	"exit":    exitProgram,
	"deaf":    deafProgram,
	"fitful":  fitfulProgram,
	"pour":    pourProgram,
	"copy":    copyProgram,
}

// sleepProgram ends when it is asked to.
func sleepProgram([]string) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGTERM)
	fmt.Println("ready")
	<-asked
	return nil
}

// suProgram becomes another user first, whereupon the kernel forgets that it is to end with its parent.
func suProgram(args []string) error {
	if err := syscall.Setuid(1); err != nil { // not where a single id is mapped
		fmt.Println(err)
	}
	return sleepProgram(args)
}

// chatterProgram writes without end.
func chatterProgram([]string) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGTERM)
	fmt.Println("ready")
	for n := 0; ; n++ {
		select {
		case <-asked:
			return nil
		case <-time.After(time.Millisecond):
			fmt.Println("line", n)
		}
	}
}

// exitProgram ends with a status, after so many milliseconds.
func exitProgram(args []string) error {
	fmt.Println("ready")
	if len(args) > 1 {
		ms, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// fitfulProgram ends at once, but for its second run, which takes so many milliseconds, and its third, which does not end.
func fitfulProgram(args []string) error {
	const file = "/runs"
	runs, _ := os.ReadFile(file)
	if err := os.WriteFile(file, append(runs, '.'), 0o600); err != nil {
		return err
	}
	switch len(runs) {
	case 0:
		return exitProgram([]string{"1"})
	case 1:
		return exitProgram([]string{"1", args[0]})
	}
	return sleepProgram(nil)
}

// deafProgram does not end when it is asked to.
func deafProgram([]string) error {
	signal.Ignore(unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	fmt.Println("ready")
	time.Sleep(time.Hour)
	return nil
}
