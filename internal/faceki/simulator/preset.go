package simulator

import (
	"fmt"
	"slices"
	"strings"
)

// Preset is a set of faults with a name, which can be switched while the simulator runs.
type Preset string

// The presets. NoFaults is the initial script.
const (
	NoFaults   Preset = "off"
	SomeFaults Preset = "some"
	OutageNow  Preset = "outage"
	NoCredit   Preset = "no-credit"
)

// Presets returns all presets.
func Presets() []Preset { return []Preset{NoFaults, SomeFaults, OutageNow, NoCredit} }

// ParsePreset returns the preset with a name.
func ParsePreset(name string) (Preset, error) {
	if p := Preset(name); slices.Contains(Presets(), p) {
		return p, nil
	}
	return "", fmt.Errorf("unknown faults %q; use %s", name, PresetNames())
}

// PresetNames lists the names of the presets for people.
func PresetNames() string {
	names := make([]string, 0, len(Presets()))
	for _, p := range Presets() {
		names = append(names, string(p))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Describe says what a preset does.
func (p Preset) Describe() string {
	switch p {
	case SomeFaults:
		return "one call in twenty fails: HTTP 500, or a connection that is reset after the link was made"
	case OutageNow:
		return "every call fails with HTTP 503"
	case NoCredit:
		return "every call is refused because the account has no credit"
	case NoFaults:
	}
	return "every call succeeds"
}

// apply returns a script with the faults of the preset. Its rules come before those of
// the script.
func (p Preset) apply(s Script) Script {
	switch p {
	case NoFaults:
	case SomeFaults:
		s.Faults = []Chance{{Fault{Name: "http_500"}, 0.03}, {Fault{Name: "reset_after"}, 0.02}}
		s.MaxFaultsPerID = 2
	case OutageNow:
		s.Outage = &Fault{Name: "http_503"}
	case NoCredit:
		s.Rules = append([]Rule{{Match: "*", Fault: Fault{Name: "code_5003"}}}, s.Rules...)
	}
	return s
}

// Switch puts the initial script with the faults of a preset into effect, in place of any
// other script. Calls that hang continue as if there had been no fault.
func (a *account) Switch(p Preset) error {
	if err := a.SetScript(p.apply(a.cfg.Script)); err != nil {
		return err
	}
	a.Release()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.preset = p
	return nil
}

// Preset returns the preset in effect, or "" if another script was set.
func (a *account) Preset() Preset {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.preset
}
