package client

import "context"

// do is Do for the methods that are made from the table of operations.
func do[Resp any](ctx context.Context, c *Client, service, operation string, req any) (*Resp, error) {
	resp := new(Resp)
	if err := c.Do(ctx, service, operation, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}
