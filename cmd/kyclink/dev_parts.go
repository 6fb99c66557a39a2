package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/gofrs/flock"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/embedded"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/monitor"
	"github.com/kyclink/kyclink/worker"
)

// saveWithin limits how long the data is written at the end.
const saveWithin = 30 * time.Second

// dev is the parts of one trial: an engine on an embedded Redis, and a simulator.
type dev struct {
	*engine
	simulator         *simulator.Simulator
	control           string // the simulator's URL
	listener, watched net.Listener
	key               string // the API key
	data              string // the directory to keep data in; "" for none
	loaded            bool   // the data of an earlier process, so that it may be replaced
	kept              string // describes that data; "" if there is none
	out               io.Writer
	sample            string // describes the sample; "" if there is none
}

// open listens, starts the simulator, and reads the data of an earlier process.
func (d *dev) open(ctx context.Context, cfg config.Config, log *zap.Logger, faults simulator.Preset) (err error) {
	d.engine = &engine{cfg: cfg, log: log}
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	if _, given := os.LookupEnv("KYCLINK_LISTEN"); given {
		d.listener, err = listenAt("KYCLINK_LISTEN", cfg.API.Listen)
	} else {
		d.listener, err = listenOr(cfg.API.Listen)
	}
	if err == nil {
		d.watched, err = listenOps(cfg.Ops, log)
	}
	if err != nil {
		unlock()
		return err
	}
	stopSimulator, err := d.simulate(faults)
	if err != nil {
		unlock()
		return err
	}
	cfg.InProcess, cfg.FaceKi.BaseURL = false, d.control
	e, err := openEngine(ctx, cfg, log)
	if err != nil {
		stopSimulator()
		unlock()
		return err
	}
	e.closers = append([]func(){unlock, stopSimulator}, e.closers...)
	e.lasting = true
	d.engine = e
	if err := d.load(ctx); err != nil {
		return err
	}
	d.key, err = d.apiKey(ctx)
	return err
}

// load reads the data of an earlier process.
func (d *dev) load(ctx context.Context) error {
	d.loaded = d.data == ""
	if d.loaded {
		return nil
	}
	if err := embedded.Load(ctx, d.rdb, d.path("redis.json.gz")); err != nil {
		return err
	}
	d.loaded = true
	stored, err := d.rdb.Keys(ctx, "*").Result()
	if err != nil || len(stored) == 0 {
		return err
	}
	keys, requests := keyspace.Keys{Account: d.cfg.Account}, 0
	for _, key := range stored {
		if strings.HasPrefix(key, keys.Record("")) {
			requests++
		}
	}
	batches, err := d.rdb.HLen(ctx, keys.Batches()).Result()
	d.kept = number(requests, "request") + " and " + english.Plural(int(batches), "batch", "")
	return err
}

// simulate starts the simulator.
func (d *dev) simulate(faults simulator.Preset) (stop func(), err error) {
	d.simulator = simulator.New(simulator.Config{Script: devScript()})
	if err := d.simulator.Switch(faults); err != nil {
		return nil, err
	}
	l, err := listenOr(devSimulator)
	if err != nil {
		return nil, fmt.Errorf("start the simulator: %w", err)
	}
	d.control = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.simulator.Serve(ctx, l); err != nil {
			d.log.Error("the simulator failed", zap.Error(err))
		}
	}()
	return func() { cancel(); <-done }, nil
}

// newWorker returns a worker that has joined the account, and the metrics of the process.
func (d *dev) newWorker(ctx context.Context) (*worker.Worker, *monitor.Server, error) {
	watched := &workerAccount{Reader: d.stores.Account}
	metrics := d.newOps(watched)
	w, err := d.engine.newWorker(ctx, nil, metrics.Metrics)
	watched.worker = w
	return w, metrics, err
}

func (d *dev) path(name string) string { return filepath.Join(d.data, name) }

// lock makes the directory for the data, and keeps other processes out of it.
func (d *dev) lock() (unlock func(), err error) {
	if d.data == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(d.data, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	lock := flock.New(d.path("lock"))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("--data: %w", err)
	case !locked:
		return nil, fmt.Errorf("--data: another process uses %s; stop it, or name another directory", d.data)
	}
	return func() { _ = lock.Unlock() }, nil // the process ends anyway
}

// apiKey returns the API key of an earlier process, or else a new one.
func (d *dev) apiKey(ctx context.Context) (string, error) {
	keys, path := apikey.NewKeyring(d.rdb, d.cfg.Account), d.path("api-key")
	if d.data != "" {
		kept, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("--data: %w", err)
		}
		key := strings.TrimSpace(string(kept))
		if _, err := keys.Verify(ctx, key); err == nil {
			return key, nil
		}
	}
	key, issued, err := keys.Create(ctx, "dev", apikey.Scopes())
	if err != nil {
		return "", err
	}
	if err := d.audit(ctx, "keys.create", issued.ID); err != nil {
		return "", err
	}
	if d.data == "" {
		return key, nil
	}
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("--data: %w", err)
	}
	return key, nil
}

// sayStopping says, when ctx ends, what must be awaited.
func (d *dev) sayStopping(ctx context.Context) error {
	<-ctx.Done()
	if d.data != "" {
		fmt.Fprintf(d.out, "Stopping, to save the data in %s; a second Ctrl-C now loses what was not saved\n", d.data)
	}
	return nil
}

// save keeps the data. It is called when nothing uses the Redis any more.
func (d *dev) save(ctx context.Context) error {
	if d.data == "" || !d.loaded {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, saveWithin)
	defer cancel()
	// The simulator of the next process refuses the access token of this one's.
	token := keyspace.Keys{Account: d.cfg.Account}.Token(d.cfg.FaceKi.Fingerprint())
	if err := d.rdb.Del(ctx, token).Err(); err != nil {
		return fmt.Errorf("remove the access token: %w", err)
	}
	if err := embedded.Save(ctx, d.rdb, d.path("redis.json.gz")); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "Stopped; the data is in %s\n", d.data)
	return nil
}

func (d *dev) close() {
	for _, l := range []net.Listener{d.listener, d.watched} {
		if l != nil {
			_ = l.Close() // closed already after it was served
		}
	}
	if d.engine != nil {
		d.engine.close()
	}
}

// readFaults switches to the faults whose names are typed.
func (d *dev) readFaults(in io.Reader) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		name := strings.TrimSpace(lines.Text())
		if name == "" {
			continue
		}
		p, err := simulator.ParsePreset(name)
		if err == nil {
			err = d.simulator.Switch(p)
		}
		if err != nil {
			fmt.Fprintf(d.out, "%v\n", err)
			continue
		}
		fmt.Fprintf(d.out, "faults   %s: %s\n", p, p.Describe())
	}
}

// readable reports whether a person can type into a file.
func readable(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// onHangup calls stop when the terminal is closed, until the returned function is called.
func onHangup(stop func()) func() {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ended := make(chan struct{})
	go func() {
		select {
		case <-hangups:
			stop()
		case <-ended:
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(ended)
	}
}
