package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// changeConfig changes an image's configuration by instructions as a Dockerfile has them (commit --change): CMD,
// ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR. One text may hold several
// lines.
func changeConfig(config *v1.Config, changes []string) error {
	c := changer{Config: config}
	for _, text := range changes {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\\\n", " ")
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			if err := c.line(line); err != nil {
				return fmt.Errorf("change %q: %w", line, err)
			}
		}
	}
	return nil
}

// changer changes one configuration.
type changer struct {
	*v1.Config
	hasCmd bool // one of the changes was a CMD
}

func (c *changer) line(line string) error {
	name, rest := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		name, rest = line[:i], strings.TrimSpace(line[i:])
	}
	if known, do := c.instruction(strings.ToUpper(name)); do != nil {
		if rest == "" {
			return fmt.Errorf("%s requires at least one argument", known)
		}
		return do(rest)
	}
	return fmt.Errorf("%s is not a valid change command", strings.ToLower(name))
}

func (c *changer) instruction(name string) (string, func(string) error) {
	switch name {
	case "CMD":
		return name, c.cmd
	case "ENTRYPOINT":
		return name, c.entrypoint
	case "ENV":
		return name, c.env
	case "EXPOSE":
		return name, c.expose
	case "HEALTHCHECK":
		return name, c.healthcheck
	case "LABEL":
		return name, c.label
	case "ONBUILD":
		return name, c.onbuild
	case "STOPSIGNAL":
		return name, c.stopSignal
	case "USER":
		return name, c.user
	case "VOLUME":
		return name, c.volume
	case "WORKDIR":
		return name, c.workdir
	}
	return name, nil
}

// command reads a command line: a JSON list, or words for a shell.
func (c *changer) command(text string) []string {
	if list, ok := jsonList(text); ok {
		return list
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(append([]string{}, shell...), text)
}

// jsonList reads a list of strings. What is none, say "[ -f x ]", is meant for a shell.
func jsonList(text string) (list []string, ok bool) {
	if !strings.HasPrefix(text, "[") || json.Unmarshal([]byte(text), &list) != nil {
		return nil, false
	}
	return list, true
}

func (c *changer) cmd(text string) error {
	c.Cmd, c.hasCmd = c.command(text), true
	return nil
}

// entrypoint drops the command, which was meant for another one.
func (c *changer) entrypoint(text string) error {
	if c.Entrypoint = c.command(text); !c.hasCmd {
		c.Cmd = nil
	}
	return nil
}

func (c *changer) env(text string) error {
	pairs, err := c.pairs(text)
	for _, p := range pairs {
		if p[0] == "" {
			return errors.New("ENV names can not be blank")
		}
		c.Env = MergeEnv(c.Env, p[0]+"="+p[1])
	}
	return err
}

func (c *changer) label(text string) error {
	pairs, err := c.pairs(text)
	for _, p := range pairs {
		if p[0] == "" {
			return errors.New("LABEL names can not be blank")
		}
		c.Labels = put(c.Labels, p[0], p[1])
	}
	return err
}

// pairs reads NAME=VALUE words, or in the old form a name and the rest of the line.
func (c *changer) pairs(text string) (pairs [][2]string, err error) {
	words := splitWords(text)
	if !strings.Contains(words[0], "=") {
		name := words[0]
		value := strings.TrimSpace(strings.TrimPrefix(text, name))
		if value == "" {
			return nil, fmt.Errorf("%q: want NAME=VALUE", name)
		}
		words = []string{name + "=" + value}
	}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("%q: want NAME=VALUE", word)
		}
		if name, err = expandWord(name, c.Env); err == nil {
			value, err = expandWord(value, c.Env)
		}
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, [2]string{name, value})
	}
	return pairs, nil
}

// words splits and expands.
func (c *changer) words(text string) (words []string, err error) {
	list, ok := jsonList(text)
	if !ok {
		list = splitWords(text)
	}
	for _, word := range list {
		if word, err = expandWord(word, c.Env); err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	return words, nil
}

func (c *changer) expose(text string) error {
	words, err := c.words(text)
	for _, word := range words {
		for port := range strings.FieldsSeq(word) {
			if err := c.port(port); err != nil {
				return err
			}
		}
	}
	return err
}

// port adds a port, or each of a range.
func (c *changer) port(text string) error {
	ports, err := ParseExpose(text)
	if err != nil {
		return err
	}
	ports, protocol, _ := strings.Cut(ports, "/")
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	a, _ := strconv.Atoi(first)
	b, _ := strconv.Atoi(last)
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for ; a <= b; a++ {
		c.ExposedPorts[fmt.Sprintf("%d/%s", a, protocol)] = struct{}{}
	}
	return nil
}

func (c *changer) volume(text string) error {
	words, err := c.words(text)
	for _, word := range words {
		if word = strings.TrimSpace(word); word == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[word] = struct{}{}
	}
	return err
}

func (c *changer) workdir(text string) error {
	dir, err := expandWord(text, c.Env)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(dir, "/") {
		dir = path.Join("/", c.WorkingDir, dir)
	}
	c.WorkingDir = path.Clean(dir)
	return nil
}

func (c *changer) user(text string) (err error) {
	c.User, err = expandWord(text, c.Env)
	return err
}

func (c *changer) stopSignal(text string) error {
	name, err := expandWord(text, c.Env)
	if err != nil {
		return err
	}
	if _, err := ParseSignal(name); err != nil {
		return err
	}
	c.StopSignal = name
	return nil
}

func (c *changer) onbuild(text string) error {
	switch name, _, _ := strings.Cut(strings.ToUpper(text), " "); name {
	case "ONBUILD":
		return errors.New("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "FROM", "MAINTAINER":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", name)
	}
	c.OnBuild = append(c.OnBuild, text)
	return nil
}

func (c *changer) healthcheck(text string) error {
	h := &v1.HealthConfig{}
	for strings.HasPrefix(text, "--") {
		flag, rest, _ := strings.Cut(text, " ")
		text = strings.TrimSpace(rest)
		if err := healthFlag(h, flag); err != nil {
			return err
		}
	}
	kind, rest, _ := strings.Cut(text, " ")
	switch rest = strings.TrimSpace(rest); {
	case strings.EqualFold(kind, "NONE") && rest == "":
		h.Test = []string{"NONE"}
	case strings.EqualFold(kind, "CMD") && rest != "":
		h.Test = []string{"CMD-SHELL", rest}
		if list, ok := jsonList(rest); ok {
			h.Test = append([]string{"CMD"}, list...)
		}
	default:
		return fmt.Errorf("%q: want NONE, or CMD and a command", text)
	}
	c.Healthcheck = h
	return nil
}

func healthFlag(h *v1.HealthConfig, flag string) (err error) {
	name, value, _ := strings.Cut(flag, "=")
	var d *time.Duration
	switch name {
	case "--interval":
		d = &h.Interval
	case "--timeout":
		d = &h.Timeout
	case "--start-period":
		d = &h.StartPeriod
	case "--retries":
		if h.Retries, err = strconv.Atoi(value); err != nil || h.Retries < 0 {
			return fmt.Errorf("%s: want a whole number", flag)
		}
		return nil
	default:
		return fmt.Errorf("unknown flag: %s", name)
	}
	if *d, err = time.ParseDuration(value); err != nil || *d < 0 {
		return fmt.Errorf("%s: want a duration", flag)
	}
	return nil
}
