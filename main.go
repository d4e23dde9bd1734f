// Command hull runs containers: one program, with nothing else installed.
package main

import (
	"context"
	"os"

	"github.com/hullrun/hull/commands"
	_ "github.com/hullrun/hull/internal/prefault"
	"github.com/hullrun/hull/run"
)

// version is what the Makefile stamps the binary with.
var version string

func main() {
	// A hull that was started to continue the birth of a container never gets here: see package ns/early, whose init
	// acts before the packages imported above are initialised. One that was started to unpack or remove files of a
	// user's subordinate ids ends here.
	if run.Helper() {
		return
	}
	commands.Version = version
	os.Exit(commands.Main(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
