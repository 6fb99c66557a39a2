package api

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Certificate is a TLS certificate in files, which is read anew when they change.
type Certificate struct {
	cert, key string
	log       *zap.Logger

	mu      sync.Mutex
	looked  time.Time
	version [2]fileVersion
	now     *tls.Certificate
}

// lookPause is between two looks at the files.
const lookPause = time.Second

// LoadCertificate reads the files, PEM both.
func LoadCertificate(cert, key string, log *zap.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	// A group may read it where root gives it to one, as for a service's user.
	if info, err := os.Stat(key); err == nil && (info.Mode().Perm()&0o007 != 0 || info.Mode().Perm()&0o070 != 0 && own(info)) {
		log.Warn("other users may read the TLS key (KYCLINK_TLS_KEY); chmod 600 it", zap.String("file", key), zap.Stringer("mode", info.Mode().Perm()))
	}
	return c, nil
}

// own says that a file is this process' user's.
func own(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(stat.Uid) == int64(os.Geteuid())
}

// Get is for [tls.Config]. While the files cannot be used, the certificate that
// they held before is.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookPause {
		return c.now, nil
	}
	before := c.version
	if c.see() != before {
		if err := c.load(); err != nil {
			c.log.Warn("the new TLS certificate cannot be used; the one before it still is", zap.Error(err))
		} else {
			c.log.Info("the TLS certificate was read anew")
		}
	}
	return c.now, nil
}

func (c *Certificate) load() error {
	c.version = c.see() // before it is read: what changes in between is seen the next time
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("KYCLINK_TLS_CERT, KYCLINK_TLS_KEY: %w; they must be a certificate and its key, as PEM", err)
	}
	c.now = &pair
	return nil
}

type fileVersion struct {
	changed time.Time
	size    int64
}

func (c *Certificate) see() (v [2]fileVersion) {
	c.looked = time.Now()
	for i, path := range []string{c.cert, c.key} {
		if info, err := os.Stat(path); err == nil {
			v[i] = fileVersion{info.ModTime(), info.Size()}
		}
	}
	return v
}
