package faceki

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// keptLink is a link that was refused because its host is not allowed. It is kept, because
// it has been paid for.
type keptLink struct {
	ID  string `json:"id"`
	URL string `json:"url"`
	At  int64  `json:"at"` // when it was requested, in ms
}

// sealContext binds the encrypted link to its request.
func sealContext(applicationID string, generation int) string {
	return fmt.Sprintf("%s\n%d", applicationID, generation)
}

// keep encrypts a link for the record.
func (c *Client) keep(call Call, made request.Link) string {
	text, _ := json.Marshal(keptLink{made.LinkID, made.URL, call.AdmittedAt.UnixMilli()}) // strings and a number
	return base64.StdEncoding.EncodeToString(c.links.encrypt(Secret(text), sealContext(call.ApplicationID, call.Generation)))
}

// Kept decrypts the kept link of a request, and returns it if its host is allowed now.
// Otherwise, the fault says why the link cannot be used, and keeps it. Kept sends nothing.
func (c *Client) Kept(applicationID string, generation int, kept string) (request.Link, *fault.Fault) {
	f := &fault.Fault{Kind: fault.Unusable, Kept: kept}
	var link keptLink
	encrypted, err := base64.StdEncoding.DecodeString(f.Kept)
	text, ok := c.links.decrypt(encrypted, sealContext(applicationID, generation))
	if err != nil || !ok || json.Unmarshal([]byte(text), &link) != nil {
		f.Detail = "the kept link is encrypted with another client secret, client id or FACEKI_BASE_URL: " +
			"run a worker with those settings, or drop the request"
		return request.Link{}, f
	}
	u, err := url.Parse(link.URL)
	if err != nil || !c.cfg.linkHost(u.Hostname()) {
		f.Detail = c.cfg.hostDetail(redactor{}.line(link.host(), maxMessage))
		return request.Link{}, f
	}
	return request.Link{LinkID: link.ID, URL: link.URL, RequestedAt: time.UnixMilli(link.At).UTC()}, nil
}

func (k keptLink) host() string {
	u, err := url.Parse(k.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
