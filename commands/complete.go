package commands

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
	"github.com/urfave/cli/v2"
)

// completionFlag is what cli wants after the words typed so far. The scripts below set completionEnv too: the flag alone
// may as well be meant for a program in a container.
const (
	completionFlag = "--generate-bash-completion"
	completionEnv  = "HULL_COMPLETE"
)

// completing tells whether a shell asks what may follow args.
func completing(args []string) bool {
	return len(args) > 0 && args[len(args)-1] == completionFlag && os.Getenv(completionEnv) != ""
}

// namesOnly is the value of completionEnv when the word at the cursor does not begin with "-": then what a flag before it
// is called does not matter. Any other value leaves it to the last word.
const namesOnly = "names"

// complete prints what may follow the words typed so far. After "--" that is nothing hull knows of.
func (s *session) complete(ctx context.Context, args []string) error {
	if slices.Contains(args, "--") {
		return nil
	}
	if os.Getenv(completionEnv) == namesOnly {
		if v, typed := s.completedVerb(args[:len(args)-1]); v != nil {
			return s.printLines(s.candidates(v, typed))
		}
	}
	cli.HelpFlag = nil
	app := s.fullApp()
	app.EnableBashCompletion = true
	return app.RunContext(ctx, append([]string{"hull"}, args...))
}

// completedVerb is the command that words call, and those of them that are its arguments. It is nil while there is none,
// or only half of one.
func (s *session) completedVerb(words []string) (*verb, []string) {
	flags := s.globals()
	global, err := splitArgs(words, flags, true)
	if err != nil || len(global.args) == 0 {
		return nil, nil
	}
	for _, f := range global.flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		_ = findLong(flags, name).Set(value)
	}
	v, rest, err := findVerb(global.args)
	if err != nil || v == nil {
		return nil, nil
	}
	known, _ := v.setup(s)
	local, err := splitArgs(rest, known, v.ordered)
	if err != nil { // a flag that waits for its value
		return v, rest
	}
	return v, local.args
}

func (s *session) printLines(lines []string) error {
	return s.print(func(w io.Writer) {
		for _, l := range lines {
			fmt.Fprintln(w, l)
		}
	})
}

// fullApp is the application with every command and flag in it, for completion. Groups become commands with subcommands.
func (s *session) fullApp() *cli.App {
	app := s.newApp()
	app.Usage = "run containers from one program"
	app.Flags = spelledOut(s.globals())
	groups := map[string]*cli.Command{}
	for _, v := range table() {
		flags, _ := v.setup(s)
		for name := range strings.SplitSeq(v.names, "|") {
			first, second, two := strings.Cut(name, " ")
			if !two {
				app.Commands = append(app.Commands, s.fullCommand(first, &v, flags))
				continue
			}
			if groups[first] == nil {
				groups[first] = &cli.Command{Name: first, HideHelp: true, Usage: "Commands for a kind of thing"}
				app.Commands = append(app.Commands, groups[first])
			}
			groups[first].Subcommands = append(groups[first].Subcommands, s.fullCommand(second, &v, flags))
		}
	}
	return app
}

func (s *session) fullCommand(name string, v *verb, flags []*option) *cli.Command {
	c := &cli.Command{Name: name, Usage: v.usage, HideHelp: true, Flags: spelledOut(flags)}
	flagNames := cli.DefaultCompleteWithFlags(c)
	c.BashComplete = func(ctx *cli.Context) {
		flagNames(ctx)
		if len(os.Args) > 2 && !strings.HasPrefix(os.Args[len(os.Args)-2], "-") {
			_ = s.printLines(s.candidates(v, nil))
		}
	}
	return c
}

// candidates are the names of what a command works on, which its line of arguments tells, but for those that are typed
// already. A store that cannot be read has none: a shell that completes has no place for an error.
func (s *session) candidates(v *verb, typed []string) (names []string) {
	words := strings.Fields(v.args)
	if len(words) == 0 || v.max >= 0 && len(typed) >= v.max {
		return nil
	}
	kind := words[0]
	if kind == "bash|zsh|fish" || kind == "install|remove|print|start|stop" {
		return strings.Split(kind, "|")
	}
	if len(typed) > 0 && !strings.Contains(v.args, strings.Trim(kind, "[.]")+"...]") { // the next word is something else
		return nil
	}
	h, err := s.host()
	if err != nil {
		return nil
	}
	if kind == "IMAGE" || kind == "[IMAGE...]" || kind == "[REPOSITORY[:TAG]]" || kind == "NAME|ID" {
		images, _ := h.Images.Brief()
		for _, img := range images {
			if ref, err := registry.ParseReference(img.Name); err == nil {
				names = append(names, ref.Familiar())
			}
		}
	}
	if kind == "CONTAINER" || kind == "[CONTAINER...]" || kind == "NAME|ID" {
		containers, _ := h.List()
		for _, c := range containers {
			if suits(v.name(), c.Status) {
				names = append(names, c.Name)
			}
		}
	}
	if kind == "VOLUME" || kind == "NAME|ID" {
		volumes, _ := h.Volumes()
		for _, v := range volumes {
			names = append(names, v.Name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(typed, name) })
}

// suits tells whether a command has something to do with a container of that status.
func suits(verb string, status run.Status) bool {
	switch verb {
	case "start":
		return !status.Alive()
	case "stop", "kill", "wait":
		return status.Alive()
	case "pause", "attach", "exec", "top":
		return status == run.Running
	case "unpause":
		return status == run.Paused
	}
	return true
}

// spelledOut are the flags that are shown, with every name.
func spelledOut(flags []*option) []cli.Flag {
	var out []cli.Flag
	for _, o := range flags {
		if !o.hidden {
			o.spellings = true
			out = append(out, o)
		}
	}
	return out
}

func completionCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		switch args[0] {
		case "bash":
			fmt.Fprint(s.out, bashCompletion)
		case "zsh":
			fmt.Fprint(s.out, zshCompletion)
		case "fish":
			script, err := s.fullApp().ToFishCompletion()
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s"+fishNames, script, strings.Join(namers(), " "))
		default:
			return fmt.Errorf("completion %q: want bash, zsh or fish", args[0])
		}
		return nil
	}
}

// namers are the commands that take names and no files, by the last word of each spelling.
func namers() (words []string) {
	for _, v := range table() {
		kind, _, _ := strings.Cut(v.args, " ")
		if v.ordered || !slices.Contains([]string{"CONTAINER", "[CONTAINER...]", "IMAGE", "NAME|ID", "VOLUME"}, kind) || strings.Contains(v.args, "FILE") {
			continue
		}
		for name := range strings.SplitSeq(v.names, "|") {
			words = append(words, name[strings.IndexByte(name, ' ')+1:])
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// The scripts ask hull itself, through the flag that cli answers. That of fish is cli's own, which knows no names.

const fishNames = `
complete -c hull -n '__fish_seen_subcommand_from %s' -f
complete -c hull -n 'not __fish_hull_no_subcommand' -a '(env ` + completionEnv + `=names (commandline -opc) ` + completionFlag + ` 2>/dev/null)'
`

const bashCompletion = `# hull completion for bash: source <(hull completion bash)
_hull() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:0:COMP_CWORD}") what=names
	case $cur in --) words+=(-) what=flags ;; -*) words+=("$cur") what=flags ;; esac
	COMPREPLY=($(compgen -W "$(` + completionEnv + `=$what "${words[@]}" ` + completionFlag + ` 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _hull hull
`

const zshCompletion = `#compdef hull
# hull completion for zsh: source <(hull completion zsh), after compinit
_hull() {
	local cur=${words[CURRENT]} typed=("${(@)words[1,CURRENT-1]}") what=names
	case $cur in --) typed+=(-) what=flags ;; -*) typed+=("$cur") what=flags ;; esac
	local options=("${(@f)$(` + completionEnv + `=$what "${typed[@]}" ` + completionFlag + ` 2>/dev/null)}")
	if [[ -n ${options[1]} ]]; then
		compadd -- "${options[@]}"
	else
		_files
	fi
}
compdef _hull hull
`
