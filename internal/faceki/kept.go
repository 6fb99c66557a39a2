package faceki

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// keptLink is a link whose host was not allowed when it was made. It is paid for.
type keptLink struct {
	ID  string `json:"id"`
	URL string `json:"url"`
	At  int64  `json:"at"` // when it was asked for, ms
}

// keptPlace ties what is encrypted to its request.
func keptPlace(r request.Record) string {
	return fmt.Sprintf("%s\n%d", r.ApplicationID, r.Generation)
}

func (c *Client) keep(a attempt.Attempt, made request.Link) string {
	text, _ := json.Marshal(keptLink{made.LinkID, made.URL, a.At.UnixMilli()}) // strings and a number
	return base64.StdEncoding.EncodeToString(c.links.close(Secret(text), keptPlace(a.Record)))
}

// Kept gives the link that an earlier attempt of the request brought and that was kept,
// where its host is allowed by now. The fault says why it cannot be used still, and keeps
// it on. Nothing is asked of FaceKi.
func (c *Client) Kept(a attempt.Attempt) (request.Link, *fault.Fault) {
	f := &fault.Fault{Kind: fault.Unusable, Kept: a.KeptLink()}
	var link keptLink
	sealed, err := base64.StdEncoding.DecodeString(f.Kept)
	text, ok := c.links.open(sealed, keptPlace(a.Record))
	if err != nil || !ok || json.Unmarshal([]byte(text), &link) != nil {
		f.Detail = "the link is kept, and encrypted with another client secret, client id or FACEKI_BASE_URL: " +
			"run a worker with those, or drop the request"
		return request.Link{}, f
	}
	u, err := url.Parse(link.URL)
	if err != nil || !c.cfg.linkHost(u.Hostname()) {
		f.Detail = c.cfg.strange(private{}.line(link.host(), maxSaid))
		return request.Link{}, f
	}
	return request.Link{LinkID: link.ID, URL: link.URL, AskedAt: time.UnixMilli(link.At).UTC()}, nil
}

func (k keptLink) host() string {
	u, err := url.Parse(k.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
