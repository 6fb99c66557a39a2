package main

import (
	"net"
	"testing"
	"time"
)

func TestProxy_ListensAgainWhenItsAddressWasInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := newProxy("a listener", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	r.inner.Stop()
	other, err := net.Listen("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = other.Close() })
	if err := r.disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
