// Package hostile makes images and registries that mean harm: every entry of [Cases] is one attack, made of Go code at the
// moment it is needed. The package's tests run each through the real hull, pull and run, and look at what is left of the
// machine afterwards; they are what docs and issues mean by "nothing an image or a registry sends can touch the host".
//
//	tar.go      layers, entry by entry, with everything archive/tar would refuse to write
//	image.go    images around them, whose documents are maps so that any of them can lie
//	registry.go a registry that serves them, honestly or not
//	program.go  the program in each image: 150 bytes that write "ran"
//	cases_*.go  the attacks
package hostile

import (
	"slices"
)

// Case is one attack and what is to come of it.
type Case struct {
	Name string
	// Make changes a good image, which has the program as its only file, into the attack.
	Make func(*Image)
	// Pull is a part of hull pull's error, "" if it works because nothing is wrong with what it brings: the layers are as
	// they may be, however odd, and it is up to run to be careful.
	Pull string
	// Run is a part of hull run's error, "" if the program runs to its end. Not looked at where Pull fails: run pulls again
	// and has the same error.
	Run string
	// Code is hull run's status where Run is set; 0 stands for 125. Without Run it is the program's own.
	Code int
	// Flags are hull run's.
	Flags []string
	// After are further commands that work once the image is here: each a command line, with IMAGE for the image's name.
	After []string
	// Once leaves hull run out: it would only take its time to fail as pull did.
	Once bool
	// Endless says that the registry never ends, so that pull has to be interrupted.
	Endless bool
	// Inside is what must lie in the image afterwards, as a path and a part of the content, and says so of an attack that
	// is harmless because it happened inside.
	Inside map[string]string
}

// Cases lists all attacks. target is a folder of the host that they aim at, which has a file named secret.
func Cases(target string) []Case {
	return slices.Concat(paths(target), links(target), kinds(target), marks(), sizes(), tars(), documents(), registries(target),
		configs(), files(target))
}
