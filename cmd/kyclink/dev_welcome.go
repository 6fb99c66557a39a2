package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"os"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/tasks"
)

// The sample of dev.
const (
	sampleBatch  = "spring"
	samplePeople = 2_000
)

// devScript is the behavior of the simulator without faults. A few people of the sample
// get no link.
func devScript() simulator.Script {
	return simulator.Script{
		Seed: 1, Latency: simulator.Duration(80 * time.Millisecond), Jitter: simulator.Duration(40 * time.Millisecond),
		Rules: []simulator.Rule{
			{Match: "SPRING-??13", Fault: simulator.Fault{Name: "code_5002"}},
			{Match: "SPRING-?577", Fault: simulator.Fault{Name: "foreign_url"}},
		},
	}
}

// addSample accepts a batch of invented people.
func (d *dev) addSample(ctx context.Context) error {
	rejected := 0
	err := d.producer(nil).EnqueueAll(ctx, tasks.Batch{Name: sampleBatch}, sampleRows(), func(r tasks.Result) {
		if r.Err != nil {
			rejected++
		}
	})
	if err != nil {
		return fmt.Errorf("add the sample: %w", err)
	}
	d.sample = fmt.Sprintf("the batch %s has %s", sampleBatch, number(samplePeople-rejected, "request"))
	return nil
}

func sampleRows() iter.Seq2[tasks.Row, error] {
	return func(yield func(tasks.Row, error) bool) {
		for n := 1; n <= samplePeople; n++ {
			r := tasks.Request{
				ApplicationID: fmt.Sprintf("SPRING-%04d", n), RedirectURL: "https://shop.example/done",
				Metadata: json.RawMessage(fmt.Sprintf(`{"customer":"%d"}`, n)),
			}
			if !yield(tasks.Row{Number: n, Request: r}, nil) {
				return
			}
		}
	}
}

// welcome prints what can be done, with commands that work as they are.
func (d *dev) welcome() {
	base := d.base()
	auth := fmt.Sprintf("-H 'Authorization: Bearer %s'", d.key)
	say := func(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }
	say("kyclink dev: a worker, the API, the console and a simulated FaceKi. No link is from FaceKi.")
	say("")
	say("  console  %s/", base)
	say("  API key  %s  (the console asks for it)", d.key)
	say("  faults   %s: %s", d.simulator.Preset(), d.simulator.Preset().Describe())
	if d.sample != "" {
		say("  sample   %s", d.sample)
	}
	switch {
	case d.data == "":
		say("  data     lost when this ends; --data DIR keeps it")
	case d.kept == "":
		say("  data     saved in %s when this ends", d.data)
	default:
		say("  data     %s from %s; saved there when this ends", d.kept, d.data)
	}
	if d.cfg.Tracing.On() {
		say("  traces   sent to %s, as the OTEL_ variables say", d.cfg.Tracing.Endpoint.Host)
	}
	say("")
	say("Ask for a link, read it, and upload a batch:")
	say("")
	say(`  curl -sS %s/v1/links %s -H 'Content-Type: application/json' -H 'Prefer: wait=10' -d '{"application_id":"A-1001"}'`, base, auth)
	say(`  curl -sS %s/v1/links/A-1001 %s`, base, auth)
	say(`  printf 'application_id\nB-1\nB-2\n' | curl -sS '%s/v1/batches?batch=first' %s -H 'Content-Type: text/csv' --data-binary @-`, base, auth)
	say("")
	say("Let FaceKi fail (off, some, outage or no-credit), and see what the console says:")
	say("")
	say("  curl -sS -X PUT %s/_simulator/faults/outage", d.control)
	say("")
	stop := "Ctrl-C stops."
	if d.data != "" {
		stop = "Ctrl-C stops and saves the data; a second one meanwhile loses what was not saved."
	}
	if onTerminal() && readable(os.Stdin) {
		stop = "Or type the name of the faults here. " + stop
	}
	say("%s", stop)
}

// base returns the URL at which this machine reaches the API.
func (d *dev) base() string {
	scheme, at := "http", d.listener.Addr().String()
	if d.cfg.API.TLS() {
		scheme = "https"
	}
	if host, port, err := net.SplitHostPort(at); err == nil && net.ParseIP(host).IsUnspecified() {
		at = net.JoinHostPort("localhost", port)
	}
	return scheme + "://" + at
}
