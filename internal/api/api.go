// Package api is the HTTP API: signups and batches in, links and how things stand
// out, as openapi.yaml describes it. Every answer that is no success is a problem
// document (RFC 9457).
package api
