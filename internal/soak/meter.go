package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/redis/go-redis/v9"
)

// meter takes samples of all processes and of Redis.
type meter struct {
	*rig
	recording *recording
	file      *os.File
	writer    *writer
	previous  map[[2]string]counter // of the quantities that are rates
}

// counter is the value of a counter at a time.
type counter struct {
	value float64
	at    time.Time
}

// newMeter returns a meter that also writes its samples to a file. The caller calls close.
func newMeter(r *rig) (*meter, error) {
	names := make([]string, len(r.processes))
	for i, p := range r.processes {
		names[i] = p.name
	}
	file, err := os.Create(filepath.Join(r.cfg.dir, "soak.csv"))
	if err != nil {
		return nil, err
	}
	m := &meter{rig: r, recording: newRecording(names), file: file, previous: map[[2]string]counter{}}
	if m.writer, err = newWriter(file, m.recording); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return m, nil
}

func (m *meter) close() error { return m.file.Close() }

// run takes samples until ctx ends. What cannot be measured is a problem.
func (m *meter) run(ctx context.Context) {
	each(ctx, m.cfg.interval(), func(int) {
		taking, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		s, at := sample{}, time.Since(m.began)
		for _, p := range m.processes {
			if err := m.measureProcess(taking, p, s); err != nil {
				m.book.problem("measure %s: %v", p.name, err)
			}
		}
		if err := m.measureRedis(taking, s); err != nil {
			m.book.problem("measure Redis: %v", err)
		}
		m.openFiles(s)
		m.rate(s, rates, "links", float64(m.upstream.State().Links))
		m.recording.add(at, s)
		if err := m.writer.last(m.recording); err != nil {
			m.fail(err)
		}
	})
}

// openFiles adds the open files of all processes but for connections to Redis, if both are
// known. A pool keeps the connections that a burst needed.
func (m *meter) openFiles(s sample) {
	connections, ok := s[[2]string{clients, together}]
	open := -connections
	for _, p := range m.processes {
		n, known := s[[2]string{files, p.name}]
		open, ok = open+n, ok && known
	}
	if ok {
		s[[2]string{files, notToRedis}] = open
	}
}

// rate adds how fast a counter rises, unless it is the first sample.
func (m *meter) rate(s sample, panel, subject string, value float64) {
	id, now := [2]string{panel, subject}, counter{value, time.Now()}
	if before, ok := m.previous[id]; ok && now.at.After(before.at) {
		s[id] = (value - before.value) / now.at.Sub(before.at).Seconds()
	}
	m.previous[id] = now
}

// measureProcess reads the metrics of a process, as Prometheus does.
func (m *meter) measureProcess(ctx context.Context, p *process, s sample) error {
	scrape, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.ops+"/metrics", nil)
	if err != nil {
		return err
	}
	answer, err := m.http.Do(scrape)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	metrics, err := parseMetrics(answer.Body)
	if err != nil {
		return err
	}
	s[[2]string{resident, p.name}] = metrics["process_resident_memory_bytes"] / mebibyte
	s[[2]string{heap, p.name}] = metrics["go_memstats_next_gc_bytes"] / mebibyte // grows with what is in use, and not with garbage
	s[[2]string{goroutines, p.name}] = metrics["go_goroutines"]
	s[[2]string{files, p.name}] = metrics["process_open_fds"]
	m.rate(s, processor, p.name, 100*metrics["process_cpu_seconds_total"])
	if waiting, ok := metrics["kyclink_backlog_requests"]; ok {
		s[[2]string{backlog, "waiting requests"}] = waiting
	}
	return nil
}

// parseMetrics returns the sum of the gauges or counters of each name.
func parseMetrics(text io.Reader) (map[string]float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return nil, fmt.Errorf("parse the metrics: %w", err)
	}
	values := map[string]float64{}
	for name, family := range families {
		switch family.GetType() {
		case dto.MetricType_GAUGE, dto.MetricType_COUNTER:
			for _, metric := range family.GetMetric() {
				values[name] += metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			}
		default:
		}
	}
	if len(values) == 0 {
		return nil, errors.New("the answer has no metrics")
	}
	return values, nil
}

func (m *meter) measureRedis(ctx context.Context, s sample) error {
	var info *redis.InfoCmd
	var events *redis.IntCmd
	if _, err := m.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		info = pipe.InfoMap(ctx, "memory", "clients", "stats", "cpu")
		events = pipe.XLen(ctx, m.keys.Results())
		return nil
	}); err != nil {
		return err
	}
	c, err := m.census(ctx)
	if err != nil {
		return err
	}
	kept, err := m.keptBytes(ctx, c)
	if err != nil {
		return err
	}
	number := func(section, key string) float64 {
		value, parseErr := strconv.ParseFloat(info.Item(section, key), 64)
		if parseErr != nil {
			err = errors.Join(err, fmt.Errorf("%s of INFO: %w", key, parseErr))
		}
		return value
	}
	s[[2]string{resident, "Redis"}] = number("Memory", "used_memory_rss") / mebibyte
	s[[2]string{memory, "all else"}] = (number("Memory", "used_memory") - kept) / mebibyte
	s[[2]string{memory, "kept for days"}] = kept / mebibyte
	s[[2]string{keys, "requests and others"}] = float64(c.others())
	s[[2]string{keys, "tasks"}] = float64(c.count("task"))
	s[[2]string{keys, "kept for days"}] = float64(c.count(keptKinds()...))
	s[[2]string{clients, together}] = number("Clients", "connected_clients")
	s[[2]string{backlog, "events in the stream"}] = float64(events.Val())
	m.rate(s, processor, "Redis", 100*(number("CPU", "used_cpu_user")+number("CPU", "used_cpu_sys")))
	m.rate(s, rates, "keys that expired", number("Stats", "expired_keys"))
	return err
}
