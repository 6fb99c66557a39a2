package callback

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Secret is the text of KYCLINK_CALLBACK_SECRET. Printed, marshalled or logged, it reads
// "[redacted]"; only string(s) returns its content.
type Secret string

// Format hides the content from every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// String hides the content.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// MarshalText hides the content.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// each returns the secrets, the newest first.
func (s Secret) each() []string { return strings.Fields(string(s)) }

// The number of bytes that Standard Webhooks requires of a key.
const leastKey, mostKey = 24, 64

func wrongSecret(secret string) error {
	text, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return errors.New("does not start with whsec_")
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return errors.New("is not whsec_ and base64") // the error contains the text
	}
	if len(key) < leastKey || len(key) > mostKey {
		return fmt.Errorf("has %d bytes after base64, must have %d to %d", len(key), leastKey, mostKey)
	}
	return nil
}

// signers sign with all secrets, so that a receiver may use any of them.
type signers []*standardwebhooks.Webhook

func newSigners(secret Secret) (signers, error) {
	var all signers
	for _, one := range secret.each() {
		signer, err := standardwebhooks.NewWebhook(one)
		if err != nil {
			return nil, errors.New("callback secret: not base64") // the error contains the text
		}
		all = append(all, signer)
	}
	return all, nil
}

// sign returns the webhook-signature header, which begins with the newest secret's
// signature.
func (s signers) sign(id string, at time.Time, body []byte) (string, error) {
	signatures := make([]string, len(s))
	for i, signer := range s {
		var err error
		if signatures[i], err = signer.Sign(id, at, body); err != nil {
			return "", fmt.Errorf("sign %s: %w", id, err)
		}
	}
	return strings.Join(signatures, " "), nil
}
