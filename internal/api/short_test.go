//go:build !long

package api

const malformed = 2000 // requests
