package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// open parses the URL, and reads the files with the certificates.
func (r Redis) open() (server, error) {
	s, err := r.parse()
	if err != nil {
		return server{}, &Error{Problems: []string{err.Error()}}
	}
	var problems []string
	for _, problem := range r.secure(s.tls) {
		problems = append(problems, problem.Error())
	}
	if len(problems) > 0 {
		return server{}, &Error{Problems: problems}
	}
	return s, nil
}

// files returns the variables that name a file with a certificate or a key.
func (r Redis) files() []string {
	var variables []string
	for _, f := range []struct{ variable, path string }{
		{"KYCLINK_REDIS_CA", r.CA}, {"KYCLINK_REDIS_CERT", r.Cert}, {"KYCLINK_REDIS_KEY", r.Key},
	} {
		if f.path != "" {
			variables = append(variables, f.variable)
		}
	}
	return variables
}

// pairProblems returns the problem of a client certificate without its key, or the reverse.
func (r Redis) pairProblems() []error {
	switch {
	case r.Cert != "" && r.Key == "":
		return []error{errors.New("KYCLINK_REDIS_CERT is set without KYCLINK_REDIS_KEY; set both or neither")}
	case r.Cert == "" && r.Key != "":
		return []error{errors.New("KYCLINK_REDIS_KEY is set without KYCLINK_REDIS_CERT; set both or neither")}
	}
	return nil
}

// secure makes connections trust the private CA, and present the client certificate. c is nil
// if the URL does not ask for TLS. No problem shows the content of a file.
func (r Redis) secure(c *tls.Config) []error {
	if c == nil {
		var problems []error
		for _, variable := range r.files() {
			problems = append(problems, fmt.Errorf("%s is for TLS, but KYCLINK_REDIS_URL does not start with rediss://; correct the URL, or unset the variable", variable))
		}
		return problems
	}
	var problems []error
	if r.CA != "" {
		pem, err := os.ReadFile(r.CA)
		c.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			problems = append(problems, unreadable("KYCLINK_REDIS_CA", err))
		case !c.RootCAs.AppendCertsFromPEM(pem):
			problems = append(problems, fmt.Errorf("KYCLINK_REDIS_CA names %s, which contains no certificate; use a PEM file (BEGIN CERTIFICATE)", r.CA))
		}
	}
	if r.Cert != "" && r.Key != "" {
		pair, pairProblems := r.clientCertificate()
		problems = append(problems, pairProblems...)
		c.Certificates = []tls.Certificate{pair}
	}
	return problems
}

func (r Redis) clientCertificate() (pair tls.Certificate, problems []error) {
	cert, err := os.ReadFile(r.Cert)
	if err != nil {
		problems = append(problems, unreadable("KYCLINK_REDIS_CERT", err))
	}
	key, err := os.ReadFile(r.Key)
	if err != nil {
		problems = append(problems, unreadable("KYCLINK_REDIS_KEY", err))
	}
	if len(problems) > 0 {
		return pair, problems
	}
	if pair, err = tls.X509KeyPair(cert, key); err != nil {
		problems = append(problems, fmt.Errorf("KYCLINK_REDIS_CERT (%s) and KYCLINK_REDIS_KEY (%s) are not a certificate and its key (%w); "+
			"use PEM files that belong together, and a key without a passphrase", r.Cert, r.Key, err))
	}
	return pair, problems
}

func unreadable(variable string, err error) error {
	return fmt.Errorf("%s cannot be read (%w); check the path and the file's permissions", variable, err)
}

// refusedWithin limits the wait for the refusal of a TLS connection.
const refusedWithin = time.Second

// refusal returns the alert with which a server refused a TLS connection; nil if none did. In
// TLS 1.3, a server refuses a client certificate after the client's handshake, so that a client
// that was writing may see only that the connection was closed. Then refusal connects again.
func (s server) refusal(ctx context.Context, err error) error {
	if s.tls == nil {
		return nil
	}
	if alert := alertOf(err); alert != nil {
		return alert
	}
	for addr := range strings.SplitSeq(s.addr, ", ") {
		dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: refusedWithin}, Config: s.tls}
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(refusedWithin)) // only a closed connection fails
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if alert := alertOf(err); alert != nil {
			return alert
		}
	}
	return nil
}

// alertOf returns the alert of a server in an error of package tls, whose type is not public.
func alertOf(err error) error {
	if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == "remote error" {
		return alert
	}
	return nil
}

// acceptable says what to do after a refusal.
func (s server) acceptable() string {
	if len(s.tls.Certificates) == 0 {
		return "it may require a client certificate: name it and its key in KYCLINK_REDIS_CERT and KYCLINK_REDIS_KEY"
	}
	return "check that it trusts the CA of the certificate in KYCLINK_REDIS_CERT, and that the certificate is valid for clients"
}
