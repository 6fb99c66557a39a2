//go:build !long

package api

const malformed = 800 // requests
