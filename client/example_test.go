package client_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
)

// exampleServer stands in for a cluster.
func exampleServer() (*client.Client, func()) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/getSecretValue") {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":{"code":"NotFound","message":"there is nothing at this path"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"path":"/app/dev/web/db","version":3,"versionId":"v3","value":"cGFzc3dvcmQ=","cache":{"maxAge":"5m"}}`)
	}))
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	c, err := client.New(client.Config{
		Addresses: []string{server.URL}, CAs: pool,
		Token: client.TokenFunc(func() ([]byte, error) { return []byte("srt_example"), nil }),
	})
	if err != nil {
		panic(err)
	}
	return c, func() { c.Close(); server.Close() }
}

func Example() {
	c, stop := exampleServer()
	defer stop()
	got, err := c.Secrets().GetSecretValue(context.Background(), wire.GetSecretValueRequest{Path: "/app/dev/web/db"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer got.Value.Wipe()
	fmt.Println(got.Version, len(got.Value.Expose()), got.Value)
	_, err = c.Secrets().DescribeSecret(context.Background(), wire.PathRequest{Path: "/app/dev/web/other"})
	fmt.Println(client.IsCode(err, client.CodeNotFound))
	// Output:
	// 3 8 [secret]
	// true
}

func ExampleCache() {
	c, stop := exampleServer()
	defer stop()
	cache, err := client.NewCache(c, client.CacheConfig{Instance: "web-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()
	cache.OnChange("/app/dev/web/db", func(v *client.Value) error {
		defer v.Wipe()
		return nil // log in anew with v.Expose(); the version is confirmed after that
	})
	v, err := cache.Get(context.Background(), "/app/dev/web/db")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer v.Wipe()
	fmt.Println(v, len(v.Expose()))
	// Output: [secret /app/dev/web/db version 3] 8
}
