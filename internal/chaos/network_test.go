package main

import (
	"net"
	"testing"
	"time"
)

// Something else listens at the address for a moment after a cut.
func TestRoad_IsCutWhileItsAddressIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := build("there", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	r.proxy.Stop()
	other, err := net.Listen("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = other.Close() })
	if err := r.cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
