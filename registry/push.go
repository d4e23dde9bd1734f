package registry

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Push uploads what the registry does not have of an image, and then names it ref. It goes to the registry itself, never
// to a mirror. A reference that has only a digest must have the image's.
//
// Requests that change something are repeated by go-containerregistry (three times, for what may pass); a layer is then
// opened anew.
func (c *Client) Push(ctx context.Context, ref Reference, img v1.Image) error {
	if err := c.push(ctx, ref, img); err != nil {
		return fmt.Errorf("push %q: %w", ref.Familiar(), explain(err))
	}
	return nil
}

func (c *Client) push(ctx context.Context, ref Reference, img v1.Image) error {
	reg, err := c.registry(endpoint{host: ref.Domain})
	if err != nil {
		return err
	}
	repo := reg.Repo(ref.Path)
	var dst name.Reference = repo.Tag(ref.Tag)
	if ref.Tag == "" {
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		if digest.String() != ref.Digest {
			return problemf(ErrCorrupt, "the image is %s", digest)
		}
		dst = repo.Digest(ref.Digest)
	}
	auth, err := c.login(ctx, ref.Domain, ref.Path)
	if err != nil {
		return err
	}
	// One token for both scopes, from one handshake; the library takes a connection that is logged in as it is.
	rt, err := transport.NewWithContext(ctx, reg, auth, c.roundTripper(c.retry), []string{repo.Scope(transport.PushScope)})
	if err != nil {
		return err
	}
	return remote.Write(dst, img, remote.WithTransport(rt), remote.WithContext(ctx))
}
