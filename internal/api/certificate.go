package api

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Certificate is a TLS certificate in files. It is reloaded when they change.
type Certificate struct {
	cert, key string
	log       *zap.Logger

	mu      sync.Mutex
	checked time.Time
	version [2]fileVersion
	loaded  *tls.Certificate
}

// checkPause is the time between two checks of the files.
const checkPause = time.Second

// LoadCertificate reads a certificate and its key from PEM files.
func LoadCertificate(cert, key string, log *zap.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	// A group may read a key that root owns, as usual for a service account.
	if info, err := os.Stat(key); err == nil && (info.Mode().Perm()&0o007 != 0 || info.Mode().Perm()&0o070 != 0 && isOwner(info)) {
		log.Warn("other users can read the TLS key (KYCLINK_TLS_KEY); run chmod 600 on it", zap.String("file", key), zap.Stringer("mode", info.Mode().Perm()))
	}
	return c, nil
}

// Get is for GetCertificate of [tls.Config]. While the files are unusable, it
// returns the previous certificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < checkPause {
		return c.loaded, nil
	}
	before := c.version
	if c.readVersion() != before {
		if err := c.load(); err != nil {
			c.log.Warn("reload of the TLS certificate failed; the previous certificate stays in use", zap.Error(err))
		} else {
			c.log.Info("TLS certificate reloaded")
		}
	}
	return c.loaded, nil
}

// Ends returns when the certificate expires.
func (c *Certificate) Ends() time.Time {
	now, _ := c.Get(nil) // it has been loaded, so that there is no error
	return now.Leaf.NotAfter
}

func (c *Certificate) load() error {
	c.version = c.readVersion() // before reading, so that a change in between causes another reload
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("load KYCLINK_TLS_CERT and KYCLINK_TLS_KEY: %w; they must be PEM files with a certificate and its key", err)
	}
	c.loaded = &pair
	return nil
}

type fileVersion struct {
	changed time.Time
	size    int64
}

func (c *Certificate) readVersion() (v [2]fileVersion) {
	c.checked = time.Now()
	for i, path := range []string{c.cert, c.key} {
		if info, err := os.Stat(path); err == nil {
			v[i] = fileVersion{info.ModTime(), info.Size()}
		}
	}
	return v
}
