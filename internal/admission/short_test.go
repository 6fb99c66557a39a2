//go:build !long

package admission

const (
	everyStepOnRedis = false
	delayTokens      = 600 // tokens for which the delay of interactive calls is checked
)
