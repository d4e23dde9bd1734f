package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Get opens what is at an address that somebody has named, http:// or https://, such as an archive to import. It is as patient
// as with a registry, and no more; no login is sent, and plain http is what the address says.
func (c *Client) Get(ctx context.Context, address string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &retryTransport{inner: c.newTransport(nil), policy: c.retry, log: c.opt.Log}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("get %s: %s", req.URL.Redacted(), resp.Status)
	}
	return resp.Body, nil
}
