//go:build browser && screenshots

package browsertest

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/page"

	"github.com/kyclink/kyclink/internal/apikey"
)

// TestScreenshots writes pictures of all pages: light, dark and narrow, while links are
// created and during an outage. It runs for make screenshots only.
func TestScreenshots(t *testing.T) {
	s := newBusySystem(t)
	b := s.signedIn(apikey.Scopes()...)
	b.expectStatus(http.StatusNotFound)
	b.expectStatus(http.StatusUnprocessableEntity)
	for _, situation := range []string{"busy", "trouble"} {
		if situation == "trouble" {
			s.breakFaceKi()
		}
		for _, look := range []struct {
			name, scheme  string
			width, height int64
		}{{"light", "light", 1280, 800}, {"dark", "dark", 1280, 800}, {"narrow", "light", 390, 844}} {
			dir := filepath.Join(*pictures, situation, look.name)
			s.Must(os.MkdirAll(dir, 0o755))
			b.size(look.width, look.height)
			b.prefer(look.scheme)
			for _, v := range views() {
				b.openView(v)
				b.picture(filepath.Join(dir, v.Name+".png"))
			}
			b.signIn()
			b.awaitText("h1", "Now")
			if look.name != "narrow" { // for the README
				b.complete()
				b.write(filepath.Join(*pictures, "now-"+situation+"-"+look.name+".png"))
			}
		}
	}
}

// picture writes a picture of the whole page.
func (b *tab) picture(path string) {
	b.Helper()
	width, height := value[int64](b, `innerWidth`), value[int64](b, `innerHeight`)
	b.size(width, max(height, value[int64](b, `document.documentElement.scrollHeight`)))
	b.write(path)
	b.size(width, height)
}

// write writes a picture of the window.
func (b *tab) write(path string) {
	b.Helper()
	picture := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{})
	b.system.Must(os.WriteFile(path, picture.Data, 0o600))
}
