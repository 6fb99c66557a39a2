//go:build browser

package browsertest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// What all tests share. TestMain sets them before any test runs.
var (
	program  string // the path of kyclink
	server   *redistest.Server
	chromium context.Context // of the one browser
)

// pictures is the directory for the pictures of make screenshots.
var pictures = flag.String("screenshots", "", "write pictures of all pages to this directory, and run no other test")

// startTimeout is how long Chromium may take to start on an overloaded machine.
const startTimeout = 3 * time.Minute

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err == nil && code == 0 {
		err = fixture.FindLeaks()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	flag.Parse()
	if *pictures != "" {
		_ = flag.Set("test.run", "^TestScreenshots$")
	}
	if program, err = fixture.Program(fixture.Build{}); err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(program)) }()
	if server, err = redistest.Launch(); err != nil {
		return 0, err
	}
	defer server.Close()
	stop, err := startChromium()
	if err != nil {
		return 0, err
	}
	code = m.Run()
	return code, stop()
}

// startChromium starts the browser that all tests share.
func startChromium() (stop func() error, err error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		// Nothing but the pages themselves uses the network.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("allow-pre-commit-input", true), // input before the first paint is not dropped
		chromedp.Flag("lang", "en-US"),
		chromedp.Flag("font-render-hinting", "none"),
		chromedp.WSURLReadTimeout(startTimeout),
	)
	if os.Geteuid() == 0 { // Chromium's sandbox does not work for root
		options = append(options, chromedp.NoSandbox)
	}
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	browser, _ := chromedp.NewContext(allocator)
	if err := chromedp.Do(browser); err != nil {
		end()
		return nil, fmt.Errorf("start Chromium: %w; install it with make test-browser", err)
	}
	chromium = browser //nolint:fatcontext // it is set once
	return func() error {
		err := chromedp.Cancel(browser)
		end()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return err
	}, nil
}
