package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hullrun/hull/run"
)

func logsCommand(s *session) ([]*option, action) {
	var o run.LogOptions
	var times, details bool
	o.Tail = -1
	now := time.Now()
	moment := func(to *time.Time) func(string) error {
		return one(to, func(s string) (time.Time, error) { return run.ParseTime(s, now) })
	}
	flags := []*option{
		toggle(&o.Follow, "follow,f", "go on until the container ends"),
		toggle(&times, "timestamps,t", "show when each line was written"),
		opt("since", "TIME", "leave out what is older: a time, or a duration such as 10m", moment(&o.Since)),
		opt("until", "TIME", "leave out what is newer", moment(&o.Until)),
		opt("tail,n", "NUMBER|all", "show only so many lines of the end", one(&o.Tail, parseTail)).def("all"),
		toggle(&details, "details", "show the container's labels that --log-opt names"),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		extra := ""
		if details {
			extra = logDetails(c)
		}
		err = c.WriteLogs(ctx, o, times, extra, s.out, s.err)
		if errors.Is(err, syscall.EPIPE) {
			return nil // whoever reads has seen enough
		}
		return err
	}
}

func parseTail(s string) (int, error) {
	if s == "all" || s == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errValue{s, "want a number of lines, or all"}
	}
	return n, nil
}

// logDetails are the labels and variables that --log-opt labels= and env= name, as Docker prints them.
func logDetails(c *run.Container) string {
	facts := map[string]string{}
	for _, key := range strings.Split(c.Config.Log.Options["labels"], ",") {
		if v, ok := c.Config.Labels[key]; ok {
			facts[key] = v
		}
	}
	for _, key := range strings.Split(c.Config.Log.Options["env"], ",") {
		for _, kv := range c.Config.Process.Env {
			if name, v, _ := strings.Cut(kv, "="); name == key && key != "" {
				facts[key] = v
			}
		}
	}
	var words []string
	for _, key := range slices.Sorted(maps.Keys(facts)) {
		words = append(words, key+"="+facts[key])
	}
	if len(words) == 0 {
		return " "
	}
	return fmt.Sprintf("%s ", strings.Join(words, ","))
}
