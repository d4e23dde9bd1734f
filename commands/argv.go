package commands

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errHelp says that the user asked how a verb works.
type errHelp struct{}

func (errHelp) Error() string { return "help requested" }

// words is a command line taken apart as Docker does it, and put together again in a form that cli cannot misread.
type words struct {
	// used are the flags that occur, each once, in the order of their first occurrence.
	used []*option
	// flags are all occurrences as --name=value, under each flag's long name.
	flags []string
	// args are the other words.
	args []string
}

// argv is what to hand to cli: the flags, "--", the rest.
func (w *words) argv() []string {
	out := make([]string, 0, len(w.flags)+len(w.args)+1)
	out = append(append(out, w.flags...), "--")
	return append(out, w.args...)
}

// splitArgs reads args with Docker's rules for flags, which are those of GNU getopt: a value may be glued to a short flag
// (-p8080:80) or to a long one with "="; short switches combine (-itd), the last of them may take a value (-ite K=V);
// "--" ends the flags. When ordered, so does the first word that is no flag, and all that follows belongs to the
// container's command; otherwise flags may stand anywhere.
func splitArgs(args []string, known []*option, ordered bool) (*words, error) {
	w := &words{flags: make([]string, 0, len(args))}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			w.args = append(w.args, args...)
			return w, nil
		case strings.HasPrefix(arg, "--"):
			args, err = w.long(arg, args, known)
		case len(arg) > 1 && arg[0] == '-':
			args, err = w.shorts(arg, args, known)
		case ordered:
			w.args = append(append(w.args, arg), args...)
			return w, nil
		default:
			w.args = append(w.args, arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// long reads --name or --name=value, and returns the words that are left.
func (w *words) long(arg string, rest []string, known []*option) ([]string, error) {
	name, value, hasValue := strings.Cut(arg[2:], "=")
	o := findLong(known, name)
	switch {
	case o == nil && name == "help":
		return nil, errHelp{}
	case o == nil && (name == "" || name[0] == '-'):
		return nil, usageError("bad flag syntax: " + arg)
	case o == nil:
		return nil, unknownFlag(known, name)
	case hasValue:
	case o.IsBoolFlag():
		value = "true"
	case len(rest) == 0:
		return nil, usageError("flag needs an argument: --" + name)
	default:
		value, rest = rest[0], rest[1:]
	}
	w.add(o, value)
	return rest, nil
}

// unknownFlag names the flag that is most like it, too.
func unknownFlag(known []*option, name string) error {
	err := &ExitError{Code: exitUsage, Err: errors.New("unknown flag: --" + name)}
	var names []string
	for _, o := range known {
		if !o.hidden {
			names = append(append(names, o.name), o.also...)
		}
	}
	if near := nearest(names, name); near != "" {
		err.Near = "--" + near
	}
	return err
}

// shorts reads -abc: switches one after the other, until one takes the rest of the word, or the next word, as its value.
func (w *words) shorts(arg string, rest []string, known []*option) ([]string, error) {
	for cluster := arg[1:]; cluster != ""; {
		letter, whole := cluster[0], cluster
		cluster = cluster[1:]
		o := findShort(known, letter)
		switch {
		case o == nil && letter == 'h':
			return nil, errHelp{}
		case o == nil:
			return nil, usageError(fmt.Sprintf("unknown shorthand flag: %q in %s", firstRune(whole), arg))
		case strings.HasPrefix(cluster, "="):
			w.add(o, cluster[1:])
			return rest, nil
		case o.IsBoolFlag():
			w.add(o, "true")
		case cluster != "":
			w.add(o, cluster)
			return rest, nil
		case len(rest) == 0:
			return nil, usageError(fmt.Sprintf("flag needs an argument: %q in %s", rune(letter), arg))
		default:
			w.add(o, rest[0])
			return rest[1:], nil
		}
	}
	return rest, nil
}

// firstRune is the first character of s, so that an error can show one of several bytes.
func firstRune(s string) rune {
	for _, r := range s {
		return r
	}
	return 0
}

func (w *words) add(o *option, value string) {
	w.flags = append(w.flags, "--"+o.name+"="+value)
	if !slices.Contains(w.used, o) {
		w.used = append(w.used, o)
	}
}

func findLong(known []*option, name string) *option {
	for _, o := range known {
		if o.name == name || slices.Contains(o.also, name) {
			return o
		}
	}
	return nil
}

func findShort(known []*option, letter byte) *option {
	for _, o := range known {
		if letter != 0 && o.short == letter {
			return o
		}
	}
	return nil
}
