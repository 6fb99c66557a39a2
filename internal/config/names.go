package config

import (
	"regexp"
	"slices"
	"strings"
)

// Misspelled is a variable that is not a setting.
type Misspelled struct {
	Name string
	// Nearest is the setting that was probably meant; "" if none is similar.
	Nearest string
}

// Unknown returns the variables that are probably misspelled settings, sorted by name: all
// KYCLINK_ and FACEKI_ variables that are not settings, and other variables with almost the
// name of a setting. It omits the variables that Kubernetes sets for services.
func Unknown(environ []string) []Misspelled {
	var unknown []Misspelled
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if known(name) || serviceLink(name, value) {
			continue
		}
		ours := strings.HasPrefix(name, "KYCLINK_") || strings.HasPrefix(name, "FACEKI_")
		if near := nearest(name, ours); ours || near != "" {
			unknown = append(unknown, Misspelled{name, near})
		}
	}
	slices.SortFunc(unknown, func(a, b Misspelled) int { return strings.Compare(a.Name, b.Name) })
	return unknown
}

// services matches the variables of a Kubernetes service called kyclink… or faceki…, such as
// KYCLINK_SERVICE_HOST and KYCLINK_REDIS_PORT_6379_TCP_ADDR.
var services = regexp.MustCompile(`^(KYCLINK|FACEKI)_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// serviceLink reports whether Kubernetes sets a variable for a service, such as
// KYCLINK_PORT=tcp://10.0.0.1:80.
func serviceLink(name, value string) bool {
	scheme, _, isURL := strings.Cut(value, "://")
	return services.MatchString(name) || isURL && strings.HasSuffix(name, "_PORT") && slices.Contains([]string{"tcp", "udp", "sctp"}, scheme)
}

// nearest returns the setting that differs from a name in at most three letters, or two if
// the name does not have our prefix; "" if there is none.
func nearest(name string, ours bool) string {
	if variable, isFile := strings.CutSuffix(name, fileSuffix); isFile && known(variable) {
		return variable
	}
	best, least := "", 2
	if ours {
		least = 3
	}
	for _, variable := range variables() {
		if d := distance(strings.ToUpper(name), variable); d <= least && (best == "" || d < least) {
			best, least = variable, d
		}
	}
	return best
}

// distance returns how many letters must be inserted, deleted or replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := before
			if a[i] != b[j] {
				replaced++
			}
			before = row[j+1]
			row[j+1] = min(replaced, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func known(name string) bool { return slices.Contains(variables(), name) }
