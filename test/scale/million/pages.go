package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/test/scale"
)

// question is one kind of request. With all, a round is every page to the
// end, and pages are what is timed.
type question struct {
	name, token     string
	operation, body string
	all             bool
	denied          bool
}

func questions(ctx context.Context, w *world, n int) ([]question, error) {
	narrow, err := w.principal(ctx, "narrow", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/prod/service-0042/**"]}]`)
	if err != nil {
		return nil, err
	}
	starred, err := w.principal(ctx, "starred", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/*/service-0042/**"]}]`)
	if err != nil {
		return nil, err
	}
	nobody, err := w.principal(ctx, "nobody", `[{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/default"]}]`)
	if err != nil {
		return nil, err
	}
	const list = "secrets/listSecrets"
	middle, one := scale.Path(n/2), fmt.Sprintf(`{"path":%q}`, scale.Path(n/2))
	return []question{
		{name: "browse /", token: w.admin, operation: list, body: `{}`},
		{name: "browse a folder of 500", token: w.admin, operation: list, body: `{"prefix":"/app/prod","limit":1000}`},
		{name: "recursive, in the middle", token: w.admin, operation: list, body: fmt.Sprintf(`{"recursive":true,"cursor":%q}`, cursor(middle))},
		{name: "recursive, 1000 a page", token: w.admin, operation: list, body: fmt.Sprintf(`{"recursive":true,"limit":1000,"cursor":%q}`, cursor(middle))},
		{name: "tag of many", token: w.admin, operation: list, body: `{"recursive":true,"tags":{"team":"t7"}}`},
		{name: "tag of few", token: w.admin, operation: list, body: `{"recursive":true,"tags":{"tier":"gold"}}`},
		{name: "two tags, many and few", token: w.admin, operation: list, body: `{"recursive":true,"tags":{"team":"t0","tier":"gold"}}`},
		{name: "tag of nobody", token: w.admin, operation: list, body: `{"recursive":true,"tags":{"tier":"lead"}}`},
		{name: "text that many have", token: w.admin, operation: list, body: `{"recursive":true,"text":"service-0"}`},
		{name: "text that nobody has", token: w.admin, operation: list, body: `{"recursive":true,"text":"absent"}`, all: true},
		{name: "caller of one service", token: narrow, operation: list, body: `{"recursive":true}`},
		{name: "the same, browsing", token: narrow, operation: list, body: `{}`},
		{name: "the same, text of nobody", token: narrow, operation: list, body: `{"recursive":true,"text":"absent"}`, all: true},
		{name: "wildcard in the middle", token: starred, operation: list, body: `{"recursive":true}`, all: true},
		{name: "caller without rights", token: nobody, operation: list, body: `{"recursive":true}`, denied: true},
		{name: "listSecretVersions", token: w.admin, operation: "secrets/listSecretVersions", body: one},
		{name: "describeSecret", token: w.admin, operation: "secrets/describeSecret", body: one},
	}, nil
}

func pages(ctx context.Context, out io.Writer, w *world, n, rounds int) error {
	all, err := questions(ctx, w, n)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%-26s %8s %8s %8s %7s %6s\n", "one page of", "p50 ms", "p99 ms", "max ms", "pages", "found")
	for _, q := range all {
		if err := q.measure(ctx, out, w, rounds); err != nil {
			return err
		}
	}
	start := time.Now()
	if _, err := w.ask(ctx, w.admin, "secrets/getUsage", `{}`); err != nil {
		return err
	}
	fmt.Fprintf(out, "\ngetUsage of all: %.2f s\n", time.Since(start).Seconds())
	return nil
}

func (q question) measure(ctx context.Context, out io.Writer, w *world, rounds int) error {
	if q.all {
		rounds = max(1, rounds/50)
	}
	var times []time.Duration
	pages, found := 0, 0
	for range rounds {
		pages, found = 0, 0
		body := q.body
		for {
			start := time.Now()
			raw, err := w.ask(ctx, q.token, q.operation, body)
			times = append(times, time.Since(start))
			if q.denied && fault.Is(err, fault.AccessDenied) {
				break
			}
			if err != nil {
				return err
			}
			pages++
			var page wire.ListSecretsResponse
			if q.operation != "secrets/listSecrets" || wire.Decode(raw, &page) != nil {
				break
			}
			found += len(page.Folders) + len(page.Secrets)
			if !q.all || page.NextCursor == "" {
				break
			}
			body = fmt.Sprintf(`%s,"cursor":%q}`, q.body[:len(q.body)-1], page.NextCursor)
		}
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	fmt.Fprintf(out, "%-26s %8.2f %8.2f %8.2f %7d %6d\n", q.name, ms(times[len(times)/2]), ms(times[len(times)*99/100]), ms(times[len(times)-1]), pages, found)
	return nil
}

// cursor answers the cursor of a page that ended at path.
func cursor(path string) string { return "1." + base64.RawURLEncoding.EncodeToString([]byte(path)) }
