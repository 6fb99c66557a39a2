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

func TestConfig_ReadsTheEnvironment(t *testing.T) {
	read := func(env map[string]string) Config {
		var c Config
		if err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: &c, Lookuper: envconfig.MapLookuper(env)}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	required := map[string]string{"FACEKI_CLIENT_ID": "shop-7", "FACEKI_CLIENT_SECRET": "s3cr3t-of-shop-7"}
	if c := read(required); !reflect.DeepEqual(c, config()) || len(c.Validate()) != 0 {
		t.Errorf("only the required variables: %+v with problems %v, want %+v", c, c.Validate(), config())
	}
	c := read(map[string]string{
		"FACEKI_CLIENT_ID": "shop-7", "FACEKI_CLIENT_SECRET": "x", "FACEKI_BASE_URL": "http://127.0.0.1:8081", "FACEKI_AUTH": "get",
		"FACEKI_EXPIRY_TYPE": "string", "FACEKI_LINK_HOSTS": "a.example,b.example", "FACEKI_TIMEOUT": "3s",
	})
	want := Config{"shop-7", "x", "http://127.0.0.1:8081", "get", "string", []string{"a.example", "b.example"}, 3 * time.Second, false}
	if !reflect.DeepEqual(c, want) || len(c.Validate()) != 0 {
		t.Errorf("all variables: %+v with problems %v, want %+v", c, c.Validate(), want)
	}
}

func TestConfig_ReportsAllProblemsAtOnce(t *testing.T) {
	problems := fmt.Sprint(Config{Auth: "put", LinkHosts: []string{"https://x.example", "simulator.invalid"}, ClientSecret: ""}.Validate())
	for _, name := range []string{"FACEKI_CLIENT_ID", "FACEKI_CLIENT_SECRET", "FACEKI_BASE_URL", "FACEKI_AUTH", "FACEKI_EXPIRY_TYPE",
		"https://x.example", "simulator.invalid", "FACEKI_TIMEOUT"} {
		if !strings.Contains(problems, name) {
			t.Errorf("%s is not in the problems %s", name, problems)
		}
	}
}

func TestConfig_AcceptsOnlyHTTPSOrLoopbackBaseURLs(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://sdk.faceki.com": true, "https://sdk.faceki.com/": true, "https://proxy.example:8443/faceki": true,
		"http://localhost:9": true, "http://127.8.0.1": true, "http://[::1]:8080": true,
		"": false, "sdk.faceki.com": false, "http://sdk.faceki.com": false, "ftp://127.0.0.1": false, "https://": false,
		"https://s3cr3t@sdk.faceki.com": false, "https://sdk.faceki.com?x=s3cr3t": false, "https://sdk.faceki.com#s3cr3t": false,
		"http://localhost.evil.example": false, "https:sdk.faceki.com": false, "https://s3cr3t\x7f": false,
	} {
		c := config()
		c.BaseURL = url
		problems := c.Validate()
		if (len(problems) == 0) != ok || strings.Contains(fmt.Sprint(problems), "s3cr3t") {
			t.Errorf("%q: problems %v, want none: %v, and no secret", url, problems, ok)
		}
	}
}

func TestConfig_AcceptsOnlyHostNamesAsLinkHosts(t *testing.T) {
	for host, ok := range map[string]bool{
		"apps.faceki.com": true, "apps": true,
		"": false, " a.example": false, "a.example/": false, "a.example:443": false, "u@a.example": false, "x.invalid": false, "X.INVALID": false,
	} {
		c := config()
		c.LinkHosts = []string{"b.example", host}
		if (len(c.Validate()) == 0) != ok {
			t.Errorf("%q: problems %v, want none: %v", host, c.Validate(), ok)
		}
	}
}

func TestSecret_IsRedactedInEveryPrint(t *testing.T) {
	c := config()
	client := New(c, time.Now, nil)
	defer client.Close()
	marshalled, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := c.ClientSecret.MarshalText()
	printed := string(marshalled) + string(text) + c.ClientSecret.String() + c.ClientSecret.GoString()
	for _, v := range []any{c, &c, c.ClientSecret, []Secret{c.ClientSecret}, client} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			printed += fmt.Sprintf(verb, v)
		}
	}
	for _, leak := range []string{"s3cr3t", fmt.Sprintf("%x", "s3cr3t")} {
		if strings.Contains(printed, leak) {
			t.Errorf("%s is in %s", leak, printed)
		}
	}
	if !strings.Contains(printed, "[redacted]") || Secret("").String() != "" {
		t.Errorf("no [redacted] in %s, or an empty secret is redacted", printed)
	}
}
