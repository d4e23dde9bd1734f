package run

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Top lists the container's processes as ps(1) would: a heading for each column, and a row for each process with its pid as
// the host counts. args are the options of ps: none stands for -ef.
//
// The common ones (-ef, aux, -o with a list of columns) are answered from /proc, as no host has to have a ps; others are left
// to the host's, the output of which must have a column PID.
func (c *Container) Top(args []string) (titles []string, rows [][]string, err error) {
	list, err := c.processes()
	if err != nil {
		return nil, nil, err
	}
	if len(list) == 0 {
		return nil, nil, c.errNotRunning()
	}
	columns, unknown := parsePs(args)
	if unknown != nil {
		titles, rows, err = hostPs(args, list)
		if errors.Is(err, exec.ErrNotFound) {
			return nil, nil, fmt.Errorf("%w, and this host has no ps", unknown)
		}
		return titles, rows, err
	}
	for _, col := range columns {
		titles = append(titles, col.head)
	}
	look, err := newPsLook()
	if err != nil {
		return nil, nil, err
	}
	for _, pid := range list {
		p, err := look.at(pid)
		if err != nil {
			continue // it has just ended
		}
		row := make([]string, len(columns))
		for i, col := range columns {
			row[i] = col.value(p)
		}
		rows = append(rows, row)
	}
	return titles, rows, nil
}

// The sets of columns that go by one option.
const (
	psFull = "uid_hack,pid,ppid,c,stime,tname,time,cmd"                    // -ef
	psAll  = "pid,tname,time,ucmd"                                         // -e
	psUser = "user,pid,pcpu,pmem,vsz,rss,tname,stat,bsdstart,bsdtime,args" // aux
	psBSD  = "pid,tname,stat,bsdtime,args"                                 // ax
)

// parsePs finds the columns that options of ps ask for. Those that select processes have no say: it is the container's that
// are shown. An option or column that is not known is an error.
func parsePs(args []string) ([]psColumn, error) {
	var full, user, bsd bool
	var lists []string
	for i := 0; i < len(args); i++ {
		word := args[i]
		letters, dash := strings.CutPrefix(word, "-")
		if list, ok := strings.CutPrefix(word, "--format="); ok {
			lists = append(lists, list)
			continue
		}
		if word == "--format" {
			letters = "o"
		}
		if letters, dash = asBSD(letters, dash); letters == "" {
			return nil, errPsOption(word)
		}
		for at, letter := range letters {
			switch {
			case letter == 'w':
			case dash && (letter == 'e' || letter == 'A'):
			case dash && letter == 'f':
				full = true
			case !dash && (letter == 'a' || letter == 'x'):
				bsd = true
			case !dash && letter == 'u':
				user = true
			case letter == 'o':
				list := letters[at+1:]
				if list == "" && i+1 < len(args) {
					i++
					list = args[i]
				}
				lists = append(lists, list)
			default:
				return nil, errPsOption(word)
			}
			if letter == 'o' {
				break
			}
		}
	}
	switch {
	case len(lists) > 0:
		return parsePsLists(lists)
	case user:
		return parsePsLists([]string{psUser})
	case full || len(args) == 0:
		return parsePsLists([]string{psFull})
	case bsd:
		return parsePsLists([]string{psBSD})
	}
	return parsePsLists([]string{psAll})
}

func errPsOption(word string) error {
	return fmt.Errorf("ps option %q: not known: want -ef, aux, or -o with columns", word)
}

// asBSD reads -aux as ps does where there is no user x: as if there were no dash.
func asBSD(letters string, dash bool) (string, bool) {
	if dash && strings.Contains(letters, "u") && strings.Trim(letters, "auxw") == "" {
		return letters, false
	}
	return letters, dash
}

// parsePsLists reads the lists of -o: columns separated by commas or blanks. A heading may follow the last one of a list
// after "=", and is all the rest of it.
func parsePsLists(lists []string) (columns []psColumn, err error) {
	for _, list := range lists {
		list, head, named := strings.Cut(list, "=")
		names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
		if len(names) == 0 {
			return nil, fmt.Errorf("ps option -o %q: want columns", list)
		}
		for _, name := range names {
			col, ok := findPsColumn(name)
			if !ok {
				return nil, fmt.Errorf("ps column %q: not known: want some of %s", name, strings.Join(psColumnNames(), " "))
			}
			columns = append(columns, col)
		}
		if named {
			columns[len(columns)-1].head = head
		}
	}
	return columns, nil
}

// hostPs has the host's ps answer, and takes from that what is about the given processes.
func hostPs(args []string, pids []int) (titles []string, rows [][]string, err error) {
	ps, err := exec.LookPath("ps")
	if err != nil {
		return nil, nil, err
	}
	var numbers []string
	for _, pid := range pids {
		numbers = append(numbers, strconv.Itoa(pid))
	}
	// -q spares ps the look at all others, but not every ps has it.
	out, err := exec.Command(ps, append(slices.Clone(args), "-q", strings.Join(numbers, ","))...).Output()
	if err != nil {
		out, err = exec.Command(ps, args...).Output()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return nil, nil, fmt.Errorf("ps: %s", strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("ps: %w", err)
	}
	return pickPs(string(out), numbers)
}

// pickPs splits the output of ps into cells and keeps the rows of some processes. Blanks within the last column stay.
func pickPs(out string, pids []string) (titles []string, rows [][]string, err error) {
	head, rest, _ := strings.Cut(out, "\n")
	titles = strings.Fields(head)
	at := slices.Index(titles, "PID")
	if at < 0 {
		//lint:ignore ST1005 Docker's words
		return nil, nil, errors.New("Couldn't find PID field in ps output")
	}
	for line := range strings.Lines(rest) {
		cells := strings.Fields(line)
		if len(cells) <= at || !slices.Contains(pids, cells[at]) {
			continue
		}
		if last := len(titles) - 1; len(cells) > last {
			cells = append(cells[:last:last], strings.Join(cells[last:], " "))
		}
		rows = append(rows, cells)
	}
	return titles, rows, nil
}
