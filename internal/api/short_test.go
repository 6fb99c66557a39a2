//go:build !long

package api

const malformedRequests = 800 // requests
