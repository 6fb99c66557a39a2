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
	case "KYCLINK_REDIS_URL", "FACEKI_CLIENT_ID", "FACEKI_CLIENT_SECRET", "KYCLINK_CALLBACK_SECRET", "KYCLINK_CALLBACK_PROXY":
		return true
	}
	return false
}

// Unknown gives the KYCLINK_ and FACEKI_ variables that no version knows, sorted:
// probably typing errors, worth a warning. Those that a later version uses are
// known.
func Unknown(environ []string) []string {
	var unknown []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		ours := strings.HasPrefix(name, "KYCLINK_") || strings.HasPrefix(name, "FACEKI_")
		if ours && !known(name) {
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
	switch name {
	case "KYCLINK_REDIS_URL", "KYCLINK_REDIS_MODE", "KYCLINK_REDIS_ALLOW_EVICTION", "KYCLINK_REDIS_ALLOW_SKIP_VERIFY", "KYCLINK_ACCOUNT",
		"FACEKI_CLIENT_ID", "FACEKI_CLIENT_SECRET", "FACEKI_BASE_URL", "FACEKI_RATE", "FACEKI_BURST",
		"FACEKI_AUTH", "FACEKI_EXPIRY_TYPE", "FACEKI_WORKFLOW_ID", "FACEKI_LINK_HOSTS", "FACEKI_TIMEOUT",
		"KYCLINK_EXPIRY_MINUTES", "KYCLINK_ON_UNKNOWN", "KYCLINK_MAX_ATTEMPTS", "KYCLINK_CONCURRENCY", "KYCLINK_MAX_BACKLOG", "KYCLINK_REDIRECT_HOSTS",
		"KYCLINK_RETENTION", "KYCLINK_RESULTS_AGE", "KYCLINK_RESULTS_CAP",
		"KYCLINK_CALLBACK_SECRET", "KYCLINK_CALLBACK_HOSTS", "KYCLINK_CALLBACK_ALLOW_CIDRS", "KYCLINK_CALLBACK_PROXY",
		"KYCLINK_LOG_LEVEL", "KYCLINK_LOG_FORMAT", "KYCLINK_LISTEN", "KYCLINK_OPS_LISTEN",
		"KYCLINK_TLS_CERT", "KYCLINK_TLS_KEY", "KYCLINK_MAX_BODY":
		return true
	}
	return false
}
