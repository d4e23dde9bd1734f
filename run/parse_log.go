package run

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// Set reads the words of --log-opt, KEY=VALUE, for the driver that has been chosen. Options that only say what further
// facts to keep (labels, env, tag ...) are kept as they are.
func (l *LogConfig) Set(words []string) error {
	switch l.Driver {
	case "", LogJSONFile, LogJournald, LogNone:
	case LogLocal:
		l.MaxSize, l.MaxFiles = 20_000_000, 5 // Docker's
	default:
		return fmt.Errorf("log-driver %q: unknown: want json-file, local, journald or none", l.Driver)
	}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return fmt.Errorf("log-opt %q: invalid logging option: want KEY=VALUE", word)
		}
		l.Options = put(l.Options, key, value)
		var err error
		switch key {
		case "max-size":
			if l.MaxSize, err = units.FromHumanSize(value); value == "-1" {
				l.MaxSize, err = 0, nil
			} else if err == nil && l.MaxSize <= 0 {
				err = fmt.Errorf("want a size such as 10m")
			}
		case "max-file":
			if l.MaxFiles, err = strconv.Atoi(value); err == nil && l.MaxFiles < 1 {
				err = fmt.Errorf("cannot be less than 1")
			}
		case "labels", "env", "labels-regex", "env-regex", "tag", "mode", "max-buffer-size", "compress":
		default:
			err = fmt.Errorf("unknown log opt '%s' for %s log driver", key, cmp.Or(l.Driver, LogJSONFile))
		}
		if err != nil {
			return fmt.Errorf("log-opt %q: %w", word, err)
		}
	}
	return nil
}

// file says whether the driver is one that keeps files.
func (l *LogConfig) file() bool { return l.Driver != LogNone && l.Driver != LogJournald }
