package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Script specifies the behavior of a simulator. The zero value answers every call
// immediately with a link. Random choices depend only on the seed, the application id and
// the number of the id's call, so a run is repeatable regardless of the order of calls.
//
//	{"seed":1, "latency":"80ms", "jitter":"40ms",
//	 "faults":[{"fault":"http_500","probability":0.1}, {"fault":"reset_after","probability":0.05}],
//	 "max_faults_per_id":3,
//	 "rules":[{"match":"bad-*","fault":"code_5002"}],
//	 "rate_limit":{"per_second":5,"burst":5}, "credit":1000, "outage":"http_503"}
type Script struct {
	Seed uint64 `json:"seed,omitempty"`
	// Latency is the delay before each answer, plus or minus up to Jitter.
	Latency Duration `json:"latency,omitempty"`
	Jitter  Duration `json:"jitter,omitempty"`
	// Outage, if set, is the answer to every request, including token requests.
	Outage *Fault `json:"outage,omitempty"`
	// TokenFault, if set, is the answer to every token request.
	TokenFault *Fault `json:"token_fault,omitempty"`
	// RateLimit, if set, is the limit above which calls are answered with 429.
	RateLimit *RateLimit `json:"rate_limit,omitempty"`
	// Rules are tried in order; the first applicable one is used.
	Rules []Rule `json:"rules,omitempty"`
	// Faults are the faults of all other calls. The sum of their probabilities is at most 1.
	Faults []Chance `json:"faults,omitempty"`
	// MaxFaultsPerID is the number of faults after which Faults no longer apply to an
	// id; 0: no limit.
	MaxFaultsPerID int `json:"max_faults_per_id,omitempty"`
	// Credit is the number of links before calls fail with code 5003; nil: unlimited.
	Credit *int `json:"credit,omitempty"`
}

// Fault is one way in which a call fails. In JSON, a string is the name of a fault
// without options.
//
//	http_<status>   HTTP status 200 to 599
//	code_<n>        FaceKi code n
//	hang            no answer until the caller disconnects or the call is released
//	reset_before    connection reset, no link made
//	reset_after     connection reset, link made
//	truncated       half an answer, link made
//	not_json        200 with an HTML page, link made
//	redirect        302 to a path of the simulator that counts requests
//	no_data         code 0 without a link id, link made
//	no_url          code 0 without a URL, link made
//	foreign_url     code 0 with a URL on another host, link made
//	too_long        200 with a body of more than a megabyte, link made
type Fault struct {
	Name string `json:"fault"`
	// Status is the HTTP status of code_<n>. The default is 200.
	Status int `json:"status,omitempty"`
	// Envelope is the form of the body of http_<status> and code_<n>: responseCode,
	// statusCode, code, message, zero (code 0), text or empty; or html, login or proxy,
	// which do not come from FaceKi. The default is statusCode for http_<status> and
	// responseCode for code_<n>.
	Envelope string `json:"envelope,omitempty"`
	// RetryAfter is the Retry-After header. The default is none, or one second for http_429.
	RetryAfter Duration `json:"retry_after,omitempty"`
	// Host is the host of the link of foreign_url. It must end in .example, .test or
	// .invalid, where no real link can be. The default is elsewhere.invalid.
	Host string `json:"host,omitempty"`
	// Made overrides whether a link is made before the fault.
	Made *bool `json:"made,omitempty"`
}

// Chance is a fault with a probability.
type Chance struct {
	Fault
	Probability float64 `json:"probability"`
}

// Rule is a fault for application ids that match a pattern with * and ?.
type Rule struct {
	Match string `json:"match"`
	Fault
	// Times is the number of faults of an id, of any kind, after which the rule no longer
	// applies to it; 0: no limit.
	Times int `json:"times,omitempty"`
	// Probability is the chance that the rule applies. The default is 1.
	Probability float64 `json:"probability,omitempty"`
}

// RateLimit is a token bucket.
type RateLimit struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"`
	// RetryAfter is the Retry-After header. The default is the time until the next
	// permitted call.
	RetryAfter Duration `json:"retry_after,omitempty"`
}

// Duration is a duration that is written as "80ms" in JSON.
type Duration time.Duration

// MarshalText formats the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText parses a duration, which must not be negative.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("invalid duration %q; use a value such as 80ms", b)
	}
	*d = Duration(v)
	return nil
}

// UnmarshalJSON decodes a fault or the name of a fault.
func (f *Fault) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		return json.Unmarshal(b, &f.Name)
	}
	type plain Fault
	return decodeStrict(b, (*plain)(f))
}

// UnmarshalJSON decodes a fault and its probability.
func (c *Chance) UnmarshalJSON(b []byte) error {
	type plain Fault // has no methods that the embedding struct would inherit
	var v struct {
		plain
		Probability float64 `json:"probability"`
	}
	err := decodeStrict(b, &v)
	*c = Chance{Fault(v.plain), v.Probability}
	return err
}

// UnmarshalJSON decodes a rule and its fault.
func (r *Rule) UnmarshalJSON(b []byte) error {
	type plain Fault
	var v struct {
		plain
		Match       string  `json:"match"`
		Times       int     `json:"times"`
		Probability float64 `json:"probability"`
	}
	err := decodeStrict(b, &v)
	*r = Rule{v.Match, Fault(v.plain), v.Times, v.Probability}
	return err
}

// ParseScript decodes and validates a script in JSON. Unknown keys are errors.
func ParseScript(data []byte) (Script, error) {
	var s Script
	if err := decodeStrict(data, &s); err != nil {
		return Script{}, fmt.Errorf("script: %w", err)
	}
	return s, s.Validate()
}

func decodeStrict(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("unexpected text after the JSON value")
	}
	return nil
}

// Validate returns all errors of the script, joined.
func (s Script) Validate() error {
	var errs []error
	add := func(where string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("script: %s: %w", where, err))
		}
	}
	fault := func(where string, f *Fault) {
		if f != nil {
			add(where, f.validate())
		}
	}
	fault("outage", s.Outage)
	fault("token_fault", s.TokenFault)
	for i, r := range s.Rules {
		where := fmt.Sprintf("rules[%d]", i)
		fault(where, &r.Fault)
		if _, err := path.Match(r.Match, ""); err != nil || r.Match == "" {
			add(where, errors.New("match must be a valid pattern such as bad-*"))
		}
		if r.Probability < 0 || r.Probability > 1 || r.Times < 0 {
			add(where, errors.New("probability must be from 0 to 1, and times must not be negative"))
		}
	}
	sum := 0.0
	for i, c := range s.Faults {
		where := fmt.Sprintf("faults[%d]", i)
		fault(where, &c.Fault)
		if c.Probability <= 0 || c.Probability > 1 {
			add(where, errors.New("probability must be greater than 0 and at most 1"))
		}
		sum += c.Probability
	}
	if sum > 1+1e-9 {
		add("faults", fmt.Errorf("the sum of the probabilities is %g; it must be at most 1", sum))
	}
	if l := s.RateLimit; l != nil && (l.PerSecond <= 0 || l.Burst < 1) {
		add("rate_limit", errors.New("per_second must be greater than 0, and burst at least 1"))
	}
	if s.Jitter > s.Latency {
		add("jitter", errors.New("must not exceed latency"))
	}
	if s.MaxFaultsPerID < 0 {
		add("max_faults_per_id", errors.New("must not be negative"))
	}
	if s.Credit != nil && *s.Credit < 0 {
		add("credit", errors.New("must not be negative"))
	}
	return errors.Join(errs...)
}

var envelopes = []string{"", "responseCode", "statusCode", "code", "message", "zero", "text", "empty", "html", "login", "proxy"}

// named reports whether name is a fault without a number, and whether it makes a link.
func named(name string) (makesLink, known bool) {
	switch name {
	case "hang", "reset_before", "redirect":
		return false, true
	case "reset_after", "truncated", "not_json", "no_data", "no_url", "foreign_url", "too_long":
		return true, true
	}
	return false, false
}

var numbered = regexp.MustCompile(`^(http|code)_(\d{1,6})$`)

// number returns the n of http_<n> and code_<n>.
func (f Fault) number() (kind string, n int, ok bool) {
	m := numbered.FindStringSubmatch(f.Name)
	if m == nil {
		return "", 0, false
	}
	n, err := strconv.Atoi(m[2])
	return m[1], n, err == nil
}

func (f Fault) makesLink() bool {
	if f.Made != nil {
		return *f.Made
	}
	makesLink, _ := named(f.Name)
	return makesLink
}

func (f Fault) validate() error {
	kind, n, ok := f.number()
	_, known := named(f.Name)
	switch {
	case !ok && !known:
		return fmt.Errorf("unknown fault %q; use http_<status>, code_<n>, hang, reset_before, reset_after, truncated, "+
			"not_json, redirect, no_data, no_url, foreign_url or too_long", f.Name)
	case kind == "http" && (n < 200 || n > 599):
		return fmt.Errorf("fault %q: the status must be from 200 to 599", f.Name)
	case f.Status != 0 && (kind != "code" || f.Status < 200 || f.Status > 599):
		return fmt.Errorf("fault %q: status applies to code_<n> only, and must be from 200 to 599", f.Name)
	case !slices.Contains(envelopes, f.Envelope) || (f.Envelope != "" && !ok):
		return fmt.Errorf("fault %q: envelope applies to http_<status> and code_<n> only, and must be one of %s", f.Name, strings.Join(envelopes[1:], ", "))
	case f.Host != "" && (f.Name != "foreign_url" || !slices.Contains([]string{".example", ".test", ".invalid"}, path.Ext(f.Host))):
		return fmt.Errorf("fault %q: host applies to foreign_url only, and must end in .example, .test or .invalid", f.Name)
	case (f.Name == "reset_before" || f.Name == "reset_after") && f.Made != nil:
		return fmt.Errorf("fault %q: made is not allowed; use reset_before or reset_after", f.Name)
	}
	return nil
}
