package console

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed static
var staticFiles embed.FS

//go:embed templates
var templateFiles embed.FS

// asset is a file that browsers load.
type asset struct {
	content []byte
	version string // of the content
}

type assets map[string]asset

// loadAssets returns the embedded files by name.
func loadAssets() assets {
	all := assets{}
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		panic(err) // the program was built wrongly
	}
	for _, e := range entries {
		content, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		all[e.Name()] = asset{content, hex.EncodeToString(sum[:6])}
	}
	return all
}

// address returns the address of a file, which changes with its content.
func (a assets) address(name string) string { return "/static/" + name + "?v=" + a[name].version }

func (c *Console) static(_ context.Context, v *visit) error {
	name := v.r.PathValue("name")
	a, ok := c.assets[name]
	if !ok {
		return c.notFound(context.Background(), v)
	}
	h := v.w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Content-Length", strconv.Itoa(len(a.content)))
	h.Set("Cache-Control", "no-cache")
	if v.r.FormValue("v") == a.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = v.w.Write(a.content) // if this fails, the browser has gone
	return nil
}

func (c *Console) notFound(context.Context, *visit) error {
	return &pageError{http.StatusNotFound, "Page not found", "There is no such page. The console's pages are in its menu."}
}

// parseTemplates returns the pages by name. Each is the layout with the parts that several
// pages use, and its own file.
func parseTemplates(a assets) map[string]*template.Template {
	funcs := functions()
	funcs["asset"] = a.address
	shared := template.Must(template.New("").Funcs(funcs).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html", "templates/chart.html"))
	entries, err := templateFiles.ReadDir("templates")
	if err != nil {
		panic(err) // the program was built wrongly
	}
	pages := map[string]*template.Template{}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".html")
		if name != "layout" && name != "parts" && name != "chart" {
			pages[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, "templates/"+e.Name()))
		}
	}
	return pages
}
