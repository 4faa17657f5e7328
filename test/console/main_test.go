// Package console_test drives the web console in a real headless Chromium
// against a real cluster.
package console_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

var suite localcluster.Suite

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }

// axe finds what people who cannot see the page, or use no mouse, would fall
// over (Deque's axe-core, see docs/dependencies.md).
//
//go:embed testdata/axe.min.js
var axe string

// patience is how long the page may take to show something: a busy machine is
// no failure.
const patience = 90 * time.Second

// page is one browser with one page.
type page struct {
	t   *testing.T
	ctx context.Context
	c   *localcluster.Cluster

	mu       sync.Mutex
	troubles []string // errors of scripts, and what the content policy stopped
}

// open starts a browser at the console of a node.
func open(t *testing.T, c *localcluster.Cluster, node int) *page {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // tests run as root, and load nothing but their own server
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(patience),
	)
	allocated, stop := chromedp.NewExecAllocator(context.Background(), options...) // it outlives the test, for a picture of what went wrong
	ctx, cancel := chromedp.NewContext(allocated)
	p := &page{t: t, ctx: ctx, c: c}
	t.Cleanup(func() {
		if t.Failed() {
			p.shot("failed-" + t.Name())
		}
		cancel()
		stop()
	})
	require.NoError(t, chromedp.Do(ctx)) // starts the browser, which lives as long as ctx
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			text := e.ExceptionDetails.Text
			if e.ExceptionDetails.Exception != nil {
				text += " " + e.ExceptionDetails.Exception.Description
			}
			p.troubles = append(p.troubles, text)
		case *log.EventEntryAdded:
			if e.Entry.Source == log.EntrySourceSecurity || strings.Contains(e.Entry.Text, "Content Security Policy") || strings.Contains(e.Entry.Text, "Trusted") {
				p.troubles = append(p.troubles, e.Entry.Text)
			}
		}
	}))
	p.size(1280, 900)
	p.do(chromedp.Navigate(c.Addr(node) + "/console/"))
	return p
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%v\nthe page shows:\n%s", err, p.text())
	}
}

// runs has the page evaluate a script.
func (p *page) runs(script string) { p.t.Helper(); evaluate[any](p, script) }

func evaluate[T any](p *page, script string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%v\nthe page shows:\n%s", err, p.text())
	}
	return out
}

// until waits for a condition of the page.
func (p *page) until(what, script string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](script, chromedp.WithPollingTimeout(patience))); err != nil {
		p.t.Fatalf("waiting for %s: %v\nthe page shows:\n%s", what, err, p.text())
	}
}

func (p *page) size(width, height int64) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height))
}

func (p *page) dark(on bool) {
	p.t.Helper()
	scheme := "light"
	if on {
		scheme = "dark"
	}
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	require.NoError(p.t, err)
}

// text is what a person sees.
func (p *page) text() string {
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	out, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
	return out
}

// sees waits until the page shows a text.
func (p *page) sees(text string) {
	p.t.Helper()
	quoted, err := json.Marshal(text)
	require.NoError(p.t, err)
	p.until(text, fmt.Sprintf(`document.body.innerText.includes(%s)`, quoted))
}

// rests waits until nothing of the page is loading.
func (p *page) rests() {
	p.t.Helper()
	p.until("rest", `document.querySelector('h1') !== null && document.querySelector('[aria-busy]') === null`)
}

// goes shows a page by its address.
func (p *page) goes(hash string) {
	p.t.Helper()
	quoted, err := json.Marshal(hash)
	require.NoError(p.t, err)
	p.runs(fmt.Sprintf(`location.hash = %s; true`, quoted))
}

// clicks presses the button or link with this text.
func (p *page) clicks(text string) {
	p.t.Helper()
	xpath := fmt.Sprintf(`//*[self::button or self::a][normalize-space(.)=%q]`, text)
	p.do(chromedp.WaitVisible(xpath), chromedp.Click(xpath))
}

// types writes into the field with this label.
func (p *page) types(label, text string) {
	p.t.Helper()
	xpath := fmt.Sprintf(`//*[@id=//label[normalize-space(.)=%q]/@for]`, label)
	p.do(chromedp.WaitVisible(xpath), chromedp.SendKeys(xpath, text))
}

func (p *page) signsIn(token string) {
	p.t.Helper()
	p.types("Token", token)
	p.clicks("Sign in")
	p.sees("Sign out")
	p.rests()
}

// violation is one rule that axe found broken.
type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// isSound says what no page may have: scripts that fail, things that the
// content policy had to stop, barriers that axe finds.
func (p *page) isSound(what string) {
	p.t.Helper()
	p.mu.Lock()
	require.Empty(p.t, p.troubles, what)
	p.mu.Unlock()
	p.runs(axe + "; true")
	found := evaluate[[]violation](p, `axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations.map((v) => ({id: v.id, help: v.help, nodes: v.nodes.map((n) => ({html: n.html, failureSummary: n.failureSummary}))})))`)
	var lines []string
	for _, v := range found {
		for _, n := range v.Nodes {
			lines = append(lines, fmt.Sprintf("%s: %s\n%s\n%s", v.ID, v.Help, n.HTML, n.Summary))
		}
	}
	require.Empty(p.t, lines, "%s has barriers", what)
	require.False(p.t, evaluate[bool](p, `document.documentElement.scrollWidth > document.documentElement.clientWidth`), "%s has to be moved sideways", what)
}

// shot keeps a picture where STRONGROOM_SHOTS says, for people to look at.
func (p *page) shot(name string) {
	dir := os.Getenv("STRONGROOM_SHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Logf("no picture %s: %v", name, err)
		return
	}
	if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".png"), png, 0o600); err != nil {
		p.t.Logf("no picture %s: %v", name, err)
	}
}
