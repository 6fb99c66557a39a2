package config

import (
	"slices"
	"strings"
)

const fileSuffix = "_FILE"

// mayBeFile says of which variables the value may come from a file: what is
// secret, or holds a password.
func mayBeFile(variable string) bool {
	switch variable {
	case "KYCLINK_REDIS_URL", "FACEKI_CLIENT_ID", "FACEKI_CLIENT_SECRET", "KYCLINK_CALLBACK_SECRET":
		return true
	}
	return false
}

// Unknown gives the KYCLINK_ variables that no version knows, sorted: probably
// typing errors, worth a warning. Those that a later version uses are known.
func Unknown(environ []string) []string {
	var unknown []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "KYCLINK_") && !known(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

func known(name string) bool {
	if variable, isFile := strings.CutSuffix(name, fileSuffix); isFile {
		return mayBeFile(variable)
	}
	switch strings.TrimPrefix(name, "KYCLINK_") {
	case "REDIS_URL", "REDIS_MODE", "REDIS_ALLOW_EVICTION", "ACCOUNT",
		"EXPIRY_MINUTES", "ON_UNKNOWN", "MAX_ATTEMPTS", "CONCURRENCY", "MAX_BACKLOG",
		"RETENTION", "RESULTS_AGE", "RESULTS_CAP",
		"CALLBACK_SECRET", "CALLBACK_HOSTS", "CALLBACK_ALLOW_CIDRS", "CALLBACK_PROXY",
		"LOG_LEVEL", "LOG_FORMAT", "LISTEN", "OPS_LISTEN", "TLS_CERT", "TLS_KEY", "MAX_BODY":
		return true
	}
	return false
}
