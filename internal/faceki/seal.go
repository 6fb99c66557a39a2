package faceki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
)

// Fingerprint identifies the credentials and the base URL with 16 hexadecimal digits,
// which reveal neither. It may be logged.
func (c Config) Fingerprint() string { return hex.EncodeToString(c.derive("fingerprint", 8)) }

// derive derives a key for one purpose from the client secret.
func (c Config) derive(purpose string, length int) []byte {
	key, err := hkdf.Key(sha256.New, []byte(c.ClientSecret), []byte(c.ClientID+"\n"+c.BaseURL), "kyclink "+purpose, length)
	if err != nil {
		panic("faceki: " + err.Error()) // the lengths are valid
	}
	return key
}

// seal encrypts data that leaves the process, with a key derived from the client secret.
type seal struct{ aead cipher.AEAD }

func newSeal(c Config, purpose string) seal {
	block, err := aes.NewCipher(c.derive(purpose, 32))
	if err != nil {
		panic("faceki: " + err.Error()) // 32 bytes are a valid key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("faceki: " + err.Error()) // AES has the right block size
	}
	return seal{aead}
}

// encrypt encrypts text for one place, such as a Redis key. It can be decrypted only with
// the same place.
func (s seal) encrypt(text Secret, place string) []byte {
	return s.aead.Seal(nil, nil, []byte(text), []byte(place)) //nolint:gosec // this AEAD generates a random nonce itself
}

// decrypt decrypts what encrypt returned.
func (s seal) decrypt(encrypted []byte, place string) (Secret, bool) {
	text, err := s.aead.Open(nil, nil, encrypted, []byte(place))
	return Secret(text), err == nil
}
