package commands

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hullrun/hull/registry"
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

// complete prints what may follow the words typed so far. After "--" that is nothing hull knows of.
func (s *session) complete(ctx context.Context, args []string) error {
	if slices.Contains(args, "--") {
		return nil
	}
	cli.HelpFlag = nil
	app := s.fullApp()
	app.EnableBashCompletion = true
	return app.RunContext(ctx, append([]string{"hull"}, args...))
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
			fmt.Fprintln(s.out, strings.Join(s.candidates(v), "\n"))
		}
	}
	return c
}

// candidates are the names of what a command works on, which its line of arguments tells. A store that cannot be read has
// none: a shell that completes has no place for an error.
func (s *session) candidates(v *verb) (names []string) {
	kind, _, _ := strings.Cut(v.args, " ")
	if kind == "bash|zsh|fish" {
		return strings.Split(kind, "|")
	}
	h, err := s.host()
	if err != nil {
		return nil
	}
	if kind == "IMAGE" || kind == "[REPOSITORY[:TAG]]" || kind == "NAME|ID" {
		images, _ := h.Images.List()
		for _, img := range images {
			if ref, err := registry.ParseReference(img.Name); err == nil {
				names = append(names, ref.Familiar())
			}
		}
	}
	if kind == "CONTAINER" || kind == "NAME|ID" {
		containers, _ := h.List()
		for _, c := range containers {
			names = append(names, c.Name)
		}
	}
	return names
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
			fmt.Fprint(s.out, script)
		default:
			return fmt.Errorf("completion %q: want bash, zsh or fish", args[0])
		}
		return nil
	}
}

// Both scripts ask hull itself, through the flag that cli answers.

const bashCompletion = `# hull completion for bash: source <(hull completion bash)
_hull() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:0:COMP_CWORD}")
	[[ $cur == -* ]] && words+=("$cur")
	COMPREPLY=($(compgen -W "$(` + completionEnv + `=1 "${words[@]}" ` + completionFlag + ` 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _hull hull
`

const zshCompletion = `#compdef hull
# hull completion for zsh: source <(hull completion zsh), after compinit
_hull() {
	local cur=${words[CURRENT]} typed=("${words[@]:0:CURRENT-1}")
	[[ $cur == -* ]] && typed+=("$cur")
	local options=("${(@f)$(` + completionEnv + `=1 "${typed[@]}" ` + completionFlag + ` 2>/dev/null)}")
	if [[ -n ${options[1]} ]]; then
		compadd -- "${options[@]}"
	else
		_files
	fi
}
compdef _hull hull
`
