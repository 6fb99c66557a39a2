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

// Script is how the simulator behaves. The zero value makes every link at once.
// Chances depend on seed, application id and the number of the id's call alone,
// so a run is repeatable however its calls interleave.
//
//	{"seed":1, "latency":"80ms", "jitter":"40ms",
//	 "faults":[{"fault":"http_500","probability":0.1}, {"fault":"reset_after","probability":0.05}],
//	 "max_faults_per_id":3,
//	 "rules":[{"match":"bad-*","fault":"code_5002"}],
//	 "rate_limit":{"per_second":5,"burst":5}, "credit":1000, "outage":"http_503"}
type Script struct {
	Seed uint64 `json:"seed,omitempty"`
	// Latency is before each answer, plus or minus up to Jitter.
	Latency Duration `json:"latency,omitempty"`
	Jitter  Duration `json:"jitter,omitempty"`
	// Outage, where set, is the answer to every request, those for tokens too.
	Outage *Fault `json:"outage,omitempty"`
	// TokenFault, where set, is the answer to every request for a token.
	TokenFault *Fault `json:"token_fault,omitempty"`
	// RateLimit, where set, answers 429 to calls beyond it.
	RateLimit *RateLimit `json:"rate_limit,omitempty"`
	// Rules are looked at in order; the first that matches and hits is used.
	Rules []Rule `json:"rules,omitempty"`
	// Faults are the mix for all other calls. The probabilities add up to 1 at most.
	Faults []Chance `json:"faults,omitempty"`
	// MaxFaultsPerID is how many faults an id gets from Faults; 0: no limit.
	MaxFaultsPerID int `json:"max_faults_per_id,omitempty"`
	// Credit is how many links the wallet pays for, then code 5003; nil: all.
	Credit *int `json:"credit,omitempty"`
}

// Fault is one way in which a call fails. In JSON it may be its name alone.
//
//	http_<status>   that status, 200 to 599
//	code_<n>        FaceKi's code n
//	hang            no answer until the caller goes, or release
//	reset_before    connection reset, no link made
//	reset_after     connection reset, link made
//	truncated       half an answer, link made
//	not_json        200 with a page of HTML, link made
//	redirect        302 to a place of ours that counts who follows
//	no_data         code 0 without a link id, link made
//	no_url          code 0 without a URL, link made
//	foreign_url     code 0 with a URL on another host, link made
//	too_long        200 with a body of more than a megabyte, link made
type Fault struct {
	Name string `json:"fault"`
	// Status is the HTTP status of code_<n>; 200 where 0.
	Status int `json:"status,omitempty"`
	// Envelope is the body's shape, for http_ and code_: responseCode, statusCode,
	// code, message, zero (a code of 0), text or empty; or html, login or proxy, which are
	// pages and JSON of something else than FaceKi. By default code_ is in a
	// responseCode and http_ in a statusCode.
	Envelope string `json:"envelope,omitempty"`
	// RetryAfter is the Retry-After header; for http_429 a second where 0.
	RetryAfter Duration `json:"retry_after,omitempty"`
	// Host is where the link of foreign_url is; elsewhere.invalid by default. It must end
	// in .example, .test or .invalid, where nobody's links can be.
	Host string `json:"host,omitempty"`
	// Made says whether a link is made first, where it is not as listed above.
	Made *bool `json:"made,omitempty"`
}

// Chance is a fault that hits some calls.
type Chance struct {
	Fault
	Probability float64 `json:"probability"`
}

// Rule is a fault for the application ids that match a pattern of * and ?.
type Rule struct {
	Match string `json:"match"`
	Fault
	// Times is how many faults an id may have had, of whatever kind, for the rule
	// to be used again; 0: any number.
	Times int `json:"times,omitempty"`
	// Probability is 1 where 0.
	Probability float64 `json:"probability,omitempty"`
}

// RateLimit is a token bucket.
type RateLimit struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"`
	// RetryAfter is the header; whole seconds until the next call where 0.
	RetryAfter Duration `json:"retry_after,omitempty"`
}

// Duration is written as in "80ms".
type Duration time.Duration

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration, which must not be negative.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration such as 80ms", b)
	}
	*d = Duration(v)
	return nil
}

// UnmarshalJSON reads a fault or its name alone.
func (f *Fault) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		return json.Unmarshal(b, &f.Name)
	}
	type plain Fault
	return strict(b, (*plain)(f))
}

// UnmarshalJSON reads a fault and its probability.
func (c *Chance) UnmarshalJSON(b []byte) error {
	type plain Fault // without the methods, which would be promoted
	var v struct {
		plain
		Probability float64 `json:"probability"`
	}
	err := strict(b, &v)
	*c = Chance{Fault(v.plain), v.Probability}
	return err
}

// UnmarshalJSON reads a pattern and its fault.
func (r *Rule) UnmarshalJSON(b []byte) error {
	type plain Fault
	var v struct {
		plain
		Match       string  `json:"match"`
		Times       int     `json:"times"`
		Probability float64 `json:"probability"`
	}
	err := strict(b, &v)
	*r = Rule{v.Match, Fault(v.plain), v.Times, v.Probability}
	return err
}

// ParseScript reads a script from JSON. Unknown keys are errors.
func ParseScript(data []byte) (Script, error) {
	var s Script
	if err := strict(data, &s); err != nil {
		return Script{}, fmt.Errorf("script: %w", err)
	}
	return s, s.Validate()
}

func strict(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the JSON value")
	}
	return nil
}

// Validate gives all problems of the script, joined.
func (s Script) Validate() error {
	var problems []error
	add := func(where string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("script: %s: %w", where, err))
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
			add(where, errors.New("match must be a pattern such as bad-*"))
		}
		if r.Probability < 0 || r.Probability > 1 || r.Times < 0 {
			add(where, errors.New("probability must be from 0 to 1 and times not negative"))
		}
	}
	sum := 0.0
	for i, c := range s.Faults {
		where := fmt.Sprintf("faults[%d]", i)
		fault(where, &c.Fault)
		if c.Probability <= 0 || c.Probability > 1 {
			add(where, errors.New("probability must be above 0 and at most 1"))
		}
		sum += c.Probability
	}
	if sum > 1+1e-9 {
		add("faults", fmt.Errorf("the probabilities add up to %g, more than 1", sum))
	}
	if l := s.RateLimit; l != nil && (l.PerSecond <= 0 || l.Burst < 1) {
		add("rate_limit", errors.New("per_second must be above 0 and burst at least 1"))
	}
	if s.Jitter > s.Latency {
		add("jitter", errors.New("must not be more than latency"))
	}
	if s.MaxFaultsPerID < 0 {
		add("max_faults_per_id", errors.New("must not be negative"))
	}
	if s.Credit != nil && *s.Credit < 0 {
		add("credit", errors.New("must not be negative"))
	}
	return errors.Join(problems...)
}

var envelopes = []string{"", "responseCode", "statusCode", "code", "message", "zero", "text", "empty", "html", "login", "proxy"}

// special says of the faults that have a name of their own whether they make
// the link.
func special(name string) (made, known bool) {
	switch name {
	case "hang", "reset_before", "redirect":
		return false, true
	case "reset_after", "truncated", "not_json", "no_data", "no_url", "foreign_url", "too_long":
		return true, true
	}
	return false, false
}

var numbered = regexp.MustCompile(`^(http|code)_(\d{1,6})$`)

// number reads the n of http_<n> and code_<n>.
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
	made, _ := special(f.Name)
	return made
}

func (f Fault) validate() error {
	kind, n, ok := f.number()
	_, known := special(f.Name)
	switch {
	case !ok && !known:
		return fmt.Errorf("unknown fault %q; use http_<status>, code_<n>, hang, reset_before, reset_after, truncated, "+
			"not_json, redirect, no_data, no_url, foreign_url or too_long", f.Name)
	case kind == "http" && (n < 200 || n > 599):
		return fmt.Errorf("fault %q: the status must be from 200 to 599", f.Name)
	case f.Status != 0 && (kind != "code" || f.Status < 200 || f.Status > 599):
		return fmt.Errorf("fault %q: status is for code_<n> only, from 200 to 599", f.Name)
	case !slices.Contains(envelopes, f.Envelope) || (f.Envelope != "" && !ok):
		return fmt.Errorf("fault %q: envelope is for http_<status> and code_<n>, one of %s", f.Name, strings.Join(envelopes[1:], ", "))
	case f.Host != "" && (f.Name != "foreign_url" || !slices.Contains([]string{".example", ".test", ".invalid"}, path.Ext(f.Host))):
		return fmt.Errorf("fault %q: host is for foreign_url only, and must end in .example, .test or .invalid", f.Name)
	case (f.Name == "reset_before" || f.Name == "reset_after") && f.Made != nil:
		return fmt.Errorf("fault %q says itself whether the link is made", f.Name)
	}
	return nil
}
