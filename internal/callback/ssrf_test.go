package callback

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
)

const testSecret = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyEh"

// trap counts connections.
type trap struct {
	port    string
	touched atomic.Int64
}

func newTrap(t *testing.T, address string) *trap {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tr := &trap{}
	_, tr.port, _ = net.SplitHostPort(l.Addr().String())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tr.touched.Add(1)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return tr
}

// names is a DNS server whose answer for every name the test gives: an address, or
// several, for the nth question.
func names(t *testing.T, answer func(name string, nth int) []string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	asked := map[string]int{}
	serving.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			name, kind, end := question(buf[:n])
			if kind == 1 {
				asked[name]++
			}
			_, _ = server.WriteTo(reply(buf[:end], kind, answer(name, asked[name])), from)
		}
	})
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func question(message []byte) (name string, kind uint16, end int) {
	at := 12
	for message[at] != 0 {
		length := int(message[at])
		name += string(message[at+1:at+1+length]) + "."
		at += 1 + length
	}
	return strings.ToLower(strings.TrimSuffix(name, ".")), binary.BigEndian.Uint16(message[at+1:]), at + 5
}

func reply(query []byte, kind uint16, addresses []string) []byte {
	var found []netip.Addr
	for _, a := range addresses {
		if addr := netip.MustParseAddr(a); kind == 1 && addr.Is4() || kind == 28 && addr.Is6() {
			found = append(found, addr)
		}
	}
	out := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, byte(len(found)), 0, 0, 0, 0}, query[12:]...)
	for _, addr := range found {
		out = append(out, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(addr.BitLen()/8))
		out = append(out, addr.AsSlice()...)
	}
	return out
}

func sender(t *testing.T, cfg Config, resolver *net.Resolver) *Sender {
	t.Helper()
	if cfg.Secret == "" {
		cfg.Secret = testSecret
	}
	if cfg.Hosts == nil {
		cfg.Hosts = []string{"*"}
	}
	if problems := cfg.Validate(); len(problems) > 0 {
		t.Fatal(problems)
	}
	s, err := newSender(cfg, resolver)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func post(t *testing.T, s *Sender, url string) delivery.Reply {
	t.Helper()
	return s.Post(t.Context(), delivery.Delivery{EventID: "e-1", URL: url, Body: []byte(`{"type":"link.created"}`)})
}

// forbidden are hosts that must not be connected to, on any port.
var forbidden = map[string][]string{
	"loopback":         {"127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]", "localhost", "localhost.", "LOCALHOST", "ip6-localhost"},
	"decimal":          {"2130706433", "3232235521", "2852039166", "017700000001"},
	"octal":            {"0177.0.0.1", "0177.0.0.01", "00000177.0.0.1", "0251.0376.0251.0376"},
	"hex":              {"0x7f.0.0.1", "0x7f000001", "0x7f.1", "0xa9fea9fe", "0x7F.0x00.0x00.0x01"},
	"short":            {"127.1", "127.0.1", "0", "10.1"},
	"mapped":           {"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]"},
	"nat64":            {"[64:ff9b::7f00:1]", "[64:ff9b::a00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::7f00:1]"},
	"6to4, teredo":     {"[2002:7f00:1::]", "[2002:a00:1::1]", "[2001:0:7f00:1::]", "[2001::1]"},
	"private":          {"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "[fc00::1]", "[fd12:3456::1]"},
	"link-local":       {"169.254.0.1", "[fe80::1]", "[fe80::1%25eth0]", "[fec0::1]"},
	"cloud metadata":   {"169.254.169.254", "169.254.170.2", "[fd00:ec2::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16", "metadata.google.internal"},
	"carrier-grade":    {"100.64.0.1", "100.127.255.255"},
	"multicast":        {"224.0.0.1", "239.255.255.255", "[ff02::1]", "[ff0e::1]"},
	"this, broadcast":  {"0.0.0.0", "0.1.2.3", "255.255.255.255", "240.0.0.1", "[::]"},
	"documentation":    {"192.0.2.1", "198.51.100.1", "203.0.113.1", "[2001:db8::1]", "[3fff::1]"},
	"benchmark, other": {"198.18.0.1", "192.0.0.1", "192.88.99.1", "[100::1]", "[5f00::1]"},
	"names":            {"loopback.example", "private.example", "both.example", "mapped.example", "nat64.example", "metadata.example", "127.0.0.1.example"},
}

// Every name that is not listed leads to this machine.
func evil(name string, _ int) []string {
	switch name {
	case "private.example":
		return []string{"10.0.0.1"}
	case "both.example":
		return []string{"127.0.0.1", "192.168.1.1", "::1"}
	case "mapped.example":
		return []string{"::ffff:127.0.0.1"}
	case "nat64.example":
		return []string{"64:ff9b::7f00:1"}
	case "metadata.example":
		return []string{"169.254.169.254"}
	}
	return []string{"127.0.0.1"}
}

func TestSender_RefusesForbiddenDestinations(t *testing.T) {
	trap := newTrap(t, ":0")
	s := sender(t, Config{}, names(t, evil))
	open := sender(t, Config{AllowCIDRs: []string{"198.51.100.7/32"}}, names(t, evil)) // where plain http is possible
	tried := 0
	for kind, hosts := range forbidden {
		for _, host := range hosts {
			tried++
			for _, s := range []*Sender{s, open} {
				for _, scheme := range []string{"https", "http"} {
					reply := post(t, s, fmt.Sprintf("%s://%s:%s/hooks", scheme, host, trap.port))
					if reply.Reason != string(fault.Forbidden) || !reply.Final || reply.NoAttempt {
						t.Errorf("%s: %s://%s: got %+v", kind, scheme, host, reply)
					}
				}
			}
		}
	}
	for _, url := range []string{
		"https://shop.example@127.0.0.1:%s/", "https://shop.example:443@127.0.0.1:%s/", "https://127.0.0.1:%s#@shop.example/",
		"https://127.0.0.1:%s/@shop.example", "https://shop.example%%00@127.0.0.1:%s/", "https://127.0.0.1:%s?shop.example",
		"HTTPS://127.0.0.1:%s/", "https://shop.example%%2f@127.0.0.1:%s/", "gopher://127.0.0.1:%s/", "file://127.0.0.1:%s/etc/passwd",
		`https://shop.example\@127.0.0.1:%s/`, "//127.0.0.1:%s/", "https:127.0.0.1:%s", "https://①②⑦.⓪.⓪.①:%s/", "https://127。0。0。1:%s/",
	} {
		tried++
		if reply := post(t, s, fmt.Sprintf(url, trap.port)); reply.Accepted() {
			t.Errorf("%s: got %+v", url, reply)
		}
	}
	if n := trap.touched.Load(); n > 0 || tried < 60 {
		t.Errorf("%d connections were made; %d destinations were tried", n, tried)
	}
}

// The dialer itself refuses each destination, whatever was checked before. Those that lead
// to this machine would otherwise be connected to, which the trap would count. Go takes
// unusual spellings of an address for names, and resolves none of them.
func TestDialer_RefusesEachForbiddenAddress(t *testing.T) {
	trap := newTrap(t, ":0")
	strict := newTransport(newGuard(nil), names(t, evil), nil, false)
	open := newTransport(newGuard([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}), names(t, evil), nil, false)
	odd, here := []string{"decimal", "octal", "hex", "short"}, []string{"127.", "[::1]", "[::ffff:127", "[::ffff:7f", "[::]", "0.0.0.0", "local", "LOCAL", "ip6-", "loopback."}
	guarded, sprung := 0, int64(0)
	for kind, hosts := range forbidden {
		for _, host := range hosts {
			address := strings.ReplaceAll(host, "%25", "%") + ":" + trap.port
			_, err := strict.DialContext(t.Context(), "tcp", address)
			_, byGuard := errors.AsType[*forbiddenError](err)
			name, noSuch := errors.AsType[*net.DNSError](err)
			if !byGuard && (!noSuch || !name.IsNotFound || !slices.Contains(odd, kind)) {
				t.Errorf("%s: %s: got %v", kind, host, err)
			}
			if byGuard {
				guarded++
			}
			if slices.Contains(odd, kind) || !slices.ContainsFunc(here, func(start string) bool { return strings.HasPrefix(host, start) }) {
				continue // a test calls nobody else
			}
			conn, err := open.DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Errorf("%s: %s leads nowhere: %v", kind, host, err)
				continue
			}
			_ = conn.Close()
			sprung++
		}
	}
	fixture.Eventually(t, "the trap is sprung", func() bool { return trap.touched.Load() >= sprung })
	if guarded < 60 || sprung < 14 || trap.touched.Load() != sprung {
		t.Errorf("the guard refused %d; of %d that would have been connected to the trap saw %d", guarded, sprung, trap.touched.Load())
	}
}

func TestGuard_AllowsPublicAddresses(t *testing.T) {
	for _, addr := range []string{"93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "11.0.0.1", "168.63.129.17",
		"::ffff:93.184.216.34", "2606:2800:220:1::1", "2a00:1450:4001::1"} {
		if err := newGuard(nil).check(netip.MustParseAddr(addr), false); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		if err := newGuard(nil).check(netip.MustParseAddr(addr), true); err == nil {
			t.Errorf("%s may be reached by plain http", addr)
		}
	}
	local := newGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fe80::/10")})
	for _, addr := range []string{"127.0.0.1", "::ffff:127.0.0.1", "fe80::1%eth0"} {
		if err := local.check(netip.MustParseAddr(addr), true); err != nil {
			t.Errorf("allowed all the same: %s: %v", addr, err)
		}
	}
}

// The address is checked when it is connected to, whatever the name resolved to before.
func TestDialer_ChecksTheAddressItConnectsTo(t *testing.T) {
	trap := newTrap(t, "127.0.0.1:0")
	good := receiver(t, "127.0.0.2:"+trap.port, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s := sender(t, Config{AllowCIDRs: []string{"127.0.0.2/32"}}, names(t, func(_ string, nth int) []string {
		if nth%2 == 1 {
			return []string{"127.0.0.2"}
		}
		return []string{"127.0.0.1"}
	}))
	for i, want := range []string{"", string(fault.Forbidden), "", string(fault.Forbidden)} {
		if reply := post(t, s, "http://rebind.example:"+good+"/"); reply.Reason != want {
			t.Errorf("attempt %d: got %+v, want %q", i, reply, want)
		}
		s.Close() // a connection that is open would be used again
	}
	if n := trap.touched.Load(); n > 0 {
		t.Errorf("%d connections to the other address", n)
	}
}

func TestSender_FollowsNoRedirects(t *testing.T) {
	trap := newTrap(t, ":0")
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{"http://127.0.0.1:" + trap.port, "https://127.0.0.1:" + trap.port, "//127.0.0.1:" + trap.port, "/elsewhere"} {
			asked := 0
			port := receiver(t, "127.0.0.2:0", func(w http.ResponseWriter, _ *http.Request) {
				asked++
				w.Header().Set("Location", to)
				w.WriteHeader(code)
			})
			reply := post(t, sender(t, Config{AllowCIDRs: []string{"127.0.0.2/32"}}, nil), "http://127.0.0.2:"+port+"/")
			if reply.Reason != string(fault.Redirected) || reply.Final || reply.Code != code || asked != 1 {
				t.Errorf("%d to %s: got %+v after %d requests", code, to, reply, asked)
			}
		}
	}
	if n := trap.touched.Load(); n > 0 {
		t.Errorf("%d connections were made", n)
	}
}

// receiver listens at an address and gives its port.
func receiver(t *testing.T, address string, handle http.HandlerFunc) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: handle, ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}
