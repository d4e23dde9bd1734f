package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/hullrun/hull/layers"
)

// Export writes all files of the container's root file system as a tar, without what is mounted in it.
func (c *Container) Export(ctx context.Context, tar *os.File) error {
	err := c.asItLies(ctx, func(stack layers.Stack) error {
		return c.host.files(ctx, &fileWork{Do: "export", Stack: stack}, nil, tar)
	})
	if err != nil {
		return fmt.Errorf("export container %s: %w", c.Name, err)
	}
	c.note("export")
	return nil
}

// Diff says what the container has changed in its image's files, sorted by path.
func (c *Container) Diff(ctx context.Context) (changes []layers.Change, err error) {
	err = c.asItLies(ctx, func(stack layers.Stack) error {
		var list []byte
		err := c.host.output(ctx, &fileWork{Do: "diff", Stack: stack}, nil, func(r io.Reader) (err error) {
			list, err = io.ReadAll(r)
			return err
		})
		if err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
		for line := range bytes.SplitSeq(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
			if len(line) > 1 {
				changes = append(changes, layers.Change{Kind: string(line[:1]), Path: string(line[1:])})
			}
		}
		return nil
	})
	return changes, err
}

// asItLies reads the directories that the container's files lie in. One that does not run stays so meanwhile; one that
// runs may be removed, and then what was read is not to be trusted.
func (c *Container) asItLies(ctx context.Context, read func(layers.Stack) error) error {
	alive, err := c.keep(ctx)
	if err != nil {
		return err
	}
	if !alive {
		defer c.unlock()
	}
	stack, err := c.stack()
	if err != nil {
		return err
	}
	if err := read(stack); err != nil {
		return err
	}
	return c.look()
}
