// Package console holds the files of the web console, as every node serves
// them below /console/. They need no build step and ask no other host for
// anything. What they do goes through the API, with the rights of whoever
// signed in; see DESIGN.md.
package console

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"path"
)

//go:embed static
var static embed.FS

// File is one file, ready to be sent.
type File struct {
	Type string // of its content, for the header
	ETag string // changes with the content
	Body []byte
}

// types are those of the files that there are: another one is a mistake at
// build time, not something to guess.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// Prefix is where the console is.
const Prefix = "/console/"

// Files answers the files by the exact path of a request. Prefix itself is the
// page that loads the rest.
func Files() (map[string]File, error) {
	out := map[string]File{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		kind, known := types[path.Ext(name)]
		if !known {
			return fmt.Errorf("console: nobody said what %s is", name)
		}
		sum := sha256.Sum256(body)
		f := File{Type: kind, ETag: `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`, Body: body}
		if name == "static/index.html" {
			out[Prefix] = f
			return nil
		}
		out[Prefix+name] = f
		return nil
	})
	return out, err
}
