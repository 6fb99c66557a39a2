package callback

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"unicode"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

// replyTo classifies a status as Standard Webhooks specifies: 2xx is delivered, 410 ends the
// delivery, and anything else is retried, as a receiver that is being deployed answers with
// 404, 401 or a redirect for minutes. viaProxy says that the answer may be a proxy's.
func replyTo(code int, viaProxy bool) delivery.Reply {
	reply := delivery.Reply{Code: code, Message: fmt.Sprintf("the receiver answered with HTTP %d", code)}
	switch {
	case code == http.StatusProxyAuthRequired && viaProxy:
		reply.Reason, reply.NoAttempt = string(fault.ProxyError), true
		reply.Message = "the proxy refuses kyclink (HTTP 407)"
	case code >= 200 && code < 300:
		return delivery.Reply{Code: code}
	case code == http.StatusGone:
		reply.Reason, reply.Final = string(fault.Gone), true
		reply.Message = "the receiver wants no more callbacks at this URL (HTTP 410)"
	case code == http.StatusTooManyRequests:
		reply.Reason = string(fault.Throttled)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500 && code < 600:
		reply.Reason = string(fault.ReceiverError)
	case code >= 300 && code < 400:
		reply.Reason = string(fault.Redirected)
		reply.Message = fmt.Sprintf("the receiver answered with a redirect (HTTP %d), and kyclink follows none; callback_url must be the final address", code)
	default:
		reply.Reason = string(fault.Rejected)
	}
	return reply
}

// failure classifies an attempt without an answer. The texts of errors are not used: some
// contain what the receiver wrote, or the URL.
func (s *Sender) failure(ctx context.Context, err error) delivery.Reply {
	reply := delivery.Reply{Reason: string(fault.Connection), Message: "the connection was lost before an answer came"}
	var (
		timeout interface{ Timeout() bool }
		name    *net.DNSError
		cert    *tls.CertificateVerificationError
	)
	if forbidden, ok := errors.AsType[*forbiddenError](err); ok {
		return refusal("the destination is not allowed: " + forbidden.Error())
	}
	if proxy, ok := errors.AsType[*proxyError](err); ok {
		reply.Reason, reply.Message, reply.NoAttempt = string(fault.ProxyError), proxy.Error(), true
		return reply
	}
	if unreachable, ok := errors.AsType[*unreachableError](err); ok {
		reply.Message = unreachable.Error()
		return reply
	}
	switch {
	case errors.As(err, &name):
		reply.Message = "its name could not be resolved"
	case errors.As(err, &cert):
		reply.Message = "its certificate could not be verified"
	case errors.Is(err, http.ErrSchemeMismatch):
		reply.Message = "it does not speak TLS"
	case errors.Is(err, syscall.ECONNREFUSED):
		reply.Message = "the connection was refused"
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		reply.Reason, reply.Message = string(fault.Timeout), fmt.Sprintf("no answer within %v", s.timeout)
	}
	return reply
}

// mostKept is how many characters of an answer's body are stored.
const mostKept = 512

var anySecret = regexp.MustCompile(`whsec_[A-Za-z0-9+/_=-]*`)

// redact returns what may be stored of an answer's body, without secrets: a receiver may
// echo what it was sent.
func (s *Sender) redact(body []byte, d delivery.Delivery, signature string) string {
	var event tasks.Event
	_ = json.Unmarshal(d.Body, &event) // kyclink wrote it
	secrets := append(s.secret.each(), strings.Fields(signature)...)
	secrets = append(secrets, event.Data.URL, event.Data.LinkID, d.URL)
	if u, err := url.Parse(d.URL); err == nil && u.RequestURI() != "/" {
		secrets = append(secrets, u.RequestURI(), u.RawQuery) // secrets of the receiver
	}
	text := strings.ToValidUTF8(string(body), "�")
	for _, secret := range secrets {
		inJSON, _ := json.Marshal(secret)
		for _, written := range []string{secret, strings.Trim(string(inJSON), `"`), html.EscapeString(secret), strings.ReplaceAll(secret, "/", `\/`)} {
			if written != "" {
				text = strings.ReplaceAll(text, written, "[redacted]")
			}
		}
	}
	text = anySecret.ReplaceAllString(text, "[redacted]")
	text = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if kept := []rune(text); len(kept) > mostKept {
		return string(kept[:mostKept]) + "…"
	}
	return text
}
