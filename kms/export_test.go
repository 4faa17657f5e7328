package kms

import "github.com/strongroom/strongroom/internal/secret"

// Held answers the data keys that are in memory themselves, not copies.
func (c *DataKeyCache) Held() []secret.Bytes {
	var out []secret.Bytes
	for _, entry := range c.entries() {
		out = append(out, entry.dataKey)
	}
	return out
}
