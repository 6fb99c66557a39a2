package faceki

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sethvargo/go-envconfig"
)

func TestConfigFromEnvironment(t *testing.T) {
	read := func(env map[string]string) Config {
		var c Config
		if err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: &c, Lookuper: envconfig.MapLookuper(env)}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	least := map[string]string{"FACEKI_CLIENT_ID": "shop-7", "FACEKI_CLIENT_SECRET": "s3cr3t-of-shop-7"}
	if c := read(least); !reflect.DeepEqual(c, config()) || len(c.Validate()) != 0 {
		t.Errorf("%+v %v", c, c.Validate())
	}
	c := read(map[string]string{
		"FACEKI_CLIENT_ID": "shop-7", "FACEKI_CLIENT_SECRET": "x", "FACEKI_BASE_URL": "http://127.0.0.1:8081", "FACEKI_AUTH": "get",
		"FACEKI_EXPIRY_TYPE": "string", "FACEKI_LINK_HOSTS": "a.example,b.example", "FACEKI_TIMEOUT": "3s",
	})
	want := Config{"shop-7", "x", "http://127.0.0.1:8081", "get", "string", []string{"a.example", "b.example"}, 3 * time.Second, false}
	if !reflect.DeepEqual(c, want) || len(c.Validate()) != 0 {
		t.Errorf("%+v %v", c, c.Validate())
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	problems := fmt.Sprint(Config{Auth: "put", LinkHosts: []string{"https://x.example", "simulator.invalid"}, ClientSecret: ""}.Validate())
	for _, name := range []string{"FACEKI_CLIENT_ID", "FACEKI_CLIENT_SECRET", "FACEKI_BASE_URL", "FACEKI_AUTH", "FACEKI_EXPIRY_TYPE",
		"https://x.example", "simulator.invalid", "FACEKI_TIMEOUT"} {
		if !strings.Contains(problems, name) {
			t.Errorf("%s is missing in %s", name, problems)
		}
	}
}

func TestBaseURLs(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://sdk.faceki.com": true, "https://sdk.faceki.com/": true, "https://proxy.example:8443/faceki": true,
		"http://localhost:9": true, "http://127.8.0.1": true, "http://[::1]:8080": true,
		"": false, "sdk.faceki.com": false, "http://sdk.faceki.com": false, "ftp://127.0.0.1": false, "https://": false,
		"https://hush@sdk.faceki.com": false, "https://sdk.faceki.com?x=hush": false, "https://sdk.faceki.com#hush": false,
		"http://localhost.evil.example": false, "https:sdk.faceki.com": false, "https://hush\x7f": false,
	} {
		c := config()
		c.BaseURL = url
		problems := c.Validate()
		if (len(problems) == 0) != ok || strings.Contains(fmt.Sprint(problems), "hush") {
			t.Errorf("%q: %v", url, problems)
		}
	}
}

func TestLinkHosts(t *testing.T) {
	for host, ok := range map[string]bool{
		"apps.faceki.com": true, "apps": true,
		"": false, " a.example": false, "a.example/": false, "a.example:443": false, "u@a.example": false, "x.invalid": false, "X.INVALID": false,
	} {
		c := config()
		c.LinkHosts = []string{"b.example", host}
		if (len(c.Validate()) == 0) != ok {
			t.Errorf("%q: %v", host, c.Validate())
		}
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	c := config()
	client := New(c, time.Now, nil)
	defer client.Close()
	written, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := c.ClientSecret.MarshalText()
	shown := string(written) + string(text) + c.ClientSecret.String() + c.ClientSecret.GoString()
	for _, v := range []any{c, &c, c.ClientSecret, []Secret{c.ClientSecret}, client} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			shown += fmt.Sprintf(verb, v)
		}
	}
	for _, leak := range []string{"s3cr3t", fmt.Sprintf("%x", "s3cr3t")} {
		if strings.Contains(shown, leak) {
			t.Errorf("%s is in %s", leak, shown)
		}
	}
	if !strings.Contains(shown, "[redacted]") || Secret("").String() != "" {
		t.Error(shown)
	}
}
