package faceki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
)

// Fingerprint names the credentials and what they are sent to, so that old and
// new ones can be told apart: 16 hexadecimal digits that give neither away. It
// may be logged.
func (c Config) Fingerprint() string { return hex.EncodeToString(c.derive("fingerprint", 8)) }

// derive makes a key for one purpose from the client secret.
func (c Config) derive(purpose string, length int) []byte {
	key, err := hkdf.Key(sha256.New, []byte(c.ClientSecret), []byte(c.ClientID+"\n"+c.BaseURL), "kyclink "+purpose, length)
	if err != nil {
		panic("faceki: " + err.Error()) // lengths are ours, and small
	}
	return key
}

// seal encrypts what leaves the process, with a key that only who knows the
// client secret has.
type seal struct{ aead cipher.AEAD }

func newSeal(c Config, purpose string) seal {
	block, err := aes.NewCipher(c.derive(purpose, 32))
	if err != nil {
		panic("faceki: " + err.Error()) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("faceki: " + err.Error()) // AES has blocks of the right size
	}
	return seal{aead}
}

// close encrypts; place is where the text will be kept, and it opens nowhere else.
func (s seal) close(text Secret, place string) []byte {
	return s.aead.Seal(nil, nil, []byte(text), []byte(place)) //nolint:gosec // this AEAD makes a random nonce itself
}

func (s seal) open(sealed []byte, place string) (Secret, bool) {
	text, err := s.aead.Open(nil, nil, sealed, []byte(place))
	return Secret(text), err == nil
}
