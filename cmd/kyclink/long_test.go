//go:build long

package main

import "time"

const (
	stoppedFor = 5 * time.Second
	awayFor    = 30 * time.Second
)
