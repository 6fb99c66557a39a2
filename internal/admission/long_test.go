//go:build long

package admission

const (
	everyStepOnRedis = true
	delayTokens      = 2000 // tokens for which the delay of interactive calls is checked
)
