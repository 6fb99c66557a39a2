package tasks_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/tasks"
)

func TestCallbacks_AllowOnlyConfiguredHosts(t *testing.T) {
	t.Parallel()
	named := tasks.Callbacks{Hosts: []string{"Shop.example", "10.1.2.3"}}
	idna := tasks.Callbacks{Hosts: []string{"bücher.example", "xn--caf-dma.example", "2001:DB8:0::1"}}
	anywhere := tasks.Callbacks{Hosts: []string{"*"}}
	local := tasks.Callbacks{Hosts: []string{"*"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, c := range []struct {
		hooks tasks.Callbacks
		url   string
		want  string
	}{
		{tasks.Callbacks{}, "https://shop.example/hooks", "callbacks are off"},
		{local, "", ""},
		{named, "https://shop.example/hooks", ""},
		{named, "https://SHOP.example.:8443/hooks?a=b", ""},
		{named, "https://www.shop.example/hooks", "must not go to www.shop.example"},
		{named, "https://shop.example.evil.example/", "must not go to shop.example.evil.example"},
		{named, "https://evil.example/?shop.example", "must not go to evil.example"},
		{named, "http://10.1.2.3/", "must start with https://; http:// is only for addresses"},
		{named, "http://shop.example/", "must start with https://; http:// is only for addresses"},
		{idna, "https://xn--bcher-kva.example/", ""},
		{idna, "https://Bücher.example/", ""},
		{idna, "https://café.example/", ""},
		{idna, "https://[2001:db8::1]/", ""},
		{idna, "https://bucher.example/", "must not go to bucher.example"},
		{named, "https://１０.１.２.３/", ""}, // 10.1.2.3 in full-width characters
		{anywhere, "https://evil.example/", ""},
		{anywhere, "http://127.0.0.1/", "must start with https://"},
		{local, "http://127.0.0.1:8080/", ""},
		{local, "http://[::ffff:127.0.0.1]:8080/", ""},
		{local, "http://localhost:8080/", ""}, // its address is checked when it is resolved
		{local, "http://10.0.0.1/", "must start with https://"},
	} {
		got := c.hooks.Problem(c.url)
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s with %+v: got problem %q, want %q", c.url, c.hooks, got, c.want)
		}
	}
}

func TestCallbacks_RefuseInvalidURLs(t *testing.T) {
	t.Parallel()
	hooks := tasks.Callbacks{Hosts: []string{"*"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for url, want := range map[string]string{
		"https://shop.example/hooks":           "",
		"http://127.0.0.1:8080/":               "",
		"https://[2001:4860::8]:443/":          "",
		"https://93.184.216.34/":               "",
		"ftp://shop.example":                   "must start with https://",
		"https://user@shop.example/":           "must not contain a user name or password",
		"https://shop.example:80@evil.example": "must not contain a user name or password",
		"https://2130706433/":                  "names a host that is neither",
		"https://0x7f000001/":                  "names a host that is neither",
		"https://0177.0.0.1/":                  "names a host that is neither",
		"https://127.1/":                       "names a host that is neither",
		"https://127.0.0.0x1/":                 "names a host that is neither",
		"https://127.0.0.1./":                  "",
		"https://２１３０７０６４３３/":                  "names a host that is neither",
		"https://①⑦⑦.⓪x1/":                     "names a host that is neither",
		"https://shop.example:65535/":          "",
		"https://shop.example:65536/":          "names port 65536; ports are from 1 to 65535",
		"https://shop.example:0/":              "names port 0",
		"https://shop.example:99999999999999/": "names port 99999999999999",
		"https://./":                           "names a host that is not valid",
		"https://0xface.example/":              "",
		"https:///hooks":                       "has no host",
		`https://a\@shop.example/`:             "is not a URL",
	} {
		got := hooks.Problem(url)
		if err := (tasks.Request{ApplicationID: "A-1", CallbackURL: url}).Validate(); err != nil {
			got = strings.TrimPrefix(err.Error(), "callback_url: ")
		}
		if want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got problem %q, want %q", url, got, want)
		}
	}
}
