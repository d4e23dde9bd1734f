package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/docker/cli/cli/config/types"
	"github.com/docker/docker-credential-helpers/client"
	helpers "github.com/docker/docker-credential-helpers/credentials"
)

// helperPatience is how long a credential helper may take. It may have to ask a person for a pass phrase.
const helperPatience = 5 * time.Minute

// tokenUser is the name under which helpers keep an identity token, by the protocol of docker-credential-helpers.
const tokenUser = "<token>"

// helperProgram runs a credential helper by Docker's rule for its name. It is killed when ctx ends, or when it has had
// its time.
func (c *Client) helperProgram(ctx context.Context, helper string) client.ProgramFunc {
	return func(args ...string) client.Program {
		return &helperRun{ctx: ctx, limit: c.helperPatience, name: "docker-credential-" + helper, args: args}
	}
}

// askHelper gets the login that a helper has for a key. One that it does not have is the zero value.
func (c *Client) askHelper(ctx context.Context, helper, key string) (types.AuthConfig, error) {
	creds, err := client.Get(c.helperProgram(ctx, helper), key)
	switch {
	case helpers.IsErrCredentialsNotFound(err):
		return types.AuthConfig{}, nil
	case err != nil:
		return types.AuthConfig{}, fmt.Errorf("docker-credential-%s: %w", helper, err)
	case creds.Username == tokenUser:
		return types.AuthConfig{IdentityToken: creds.Secret}, nil
	}
	return types.AuthConfig{Username: creds.Username, Password: creds.Secret}, nil
}

// helperRun is one call of a helper, a client.Program.
type helperRun struct {
	ctx   context.Context
	limit time.Duration
	name  string
	args  []string
	in    io.Reader
}

// Input sets what the helper reads.
func (r *helperRun) Input(in io.Reader) { r.in = in }

// Output runs the helper. What a child of its own keeps open is not waited for.
func (r *helperRun) Output() ([]byte, error) {
	ctx, stop := context.WithTimeoutCause(r.ctx, r.limit, fmt.Errorf("no answer for %v", r.limit))
	defer stop()
	cmd := exec.CommandContext(ctx, r.name, r.args...)
	cmd.Stdin, cmd.Stderr, cmd.WaitDelay = r.in, os.Stderr, time.Second
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has answered
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out, err
}
