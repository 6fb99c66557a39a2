package admission

// scenario is a series of steps, see [scenarioRun], and the changes of the gate that they
// cause.
type scenario struct{ name, steps, history string }

func scenarios() []scenario {
	return []scenario{
		{"closes after five faults in a row of different requests", down + "; admit F: wait outage 1s", "0s closed outage"},
		{"counts repeated faults of one request once", fiveCalls + "; outage A B C D; outage A A A A; admit F: wait rate", ""},
		{"counts faults in a row from the last success", fiveCalls + "; outage A B C D; success E; outage A B C; +1s; admit F: grant", ""},
		{"counts faults in a row from the last answer to an invalid request", fiveCalls + "; outage A B C D; alive E; outage A B C; +1s; admit F: grant", ""},
		{"ignores a fault that is charged to its request", fiveCalls + "; outage A B C D; none E; +1s; admit F: grant", ""},
		{"closes after 14 faults in the last 20 outcomes", fiveCalls + "; success A B C D E A; outage A B C D; success E; outage A B C D; success E; outage A B C D; success E; outage A; +1s; admit F: grant; outage B; admit G: wait outage", "1s closed outage"},
		{"ignores faults before the last 20 outcomes", fiveCalls + "; outage A B C D; success A; outage A B C D; success A; outage A B C D; success A B C D E; outage A B; +1s; admit F: grant", ""},

		{"opens after a successful probe, which connects first", down + "; +5s; " + probe + "; +1s; success P; admit G: grant", "0s closed outage, 6s open"},
		{"does not probe before the pause is over", down + "; +4999ms; admit P: wait outage 1ms", "0s closed outage"},
		{"opens after a probe with an invalid request", down + "; +5s; " + probe + "; alive P; admit G: grant", "0s closed outage, 5s open"},
		{"admits one probe in the fleet", down + "; +5s; admit P: connect outage; admit Q as 2: wait outage 1s; admit R: wait outage 1s; admit Q as 2 connected: wait outage; admit P connected: probe outage; admit P connected: wait outage; admit Q as 2: wait outage", "0s closed outage"},
		{"repeats the order to connect when its reply was lost", down + "; +5s; admit P: connect outage; admit P: connect outage", "0s closed outage"},
		{"admits another request of the chosen process as the probe", down + "; +5s; admit P: connect outage; admit Q connected: probe outage; success P; admit R: wait outage; success Q; admit R: grant", "0s closed outage, 5s open"},
		{"replaces a process that does not connect in time", down + "; +5s; admit P: connect outage; +9999ms; admit Q as 2: wait outage; +1ms; admit Q as 2: connect outage; admit P connected: wait outage; admit Q as 2 connected: probe outage", "0s closed outage"},
		{"admits the probe of a process that connects late if no other has replaced it", down + "; +5s; admit P: connect outage; +30s; admit P connected: probe outage", "0s closed outage"},
		{"replaces a probe without an answer", down + "; +5s; " + probe + "; +75s; admit Q as 2: connect outage; success P; admit Q as 2 connected: probe outage; success Q; admit R: grant", "0s closed outage, 1m20s ramping"},
		{"doubles the pause after each failed probe, up to a minute", down + "; +5s; " + probe + "; outage P; +9999ms; admit P: wait outage; +1ms; " + probe + "; outage P; +20s; " + probe + "; outage P; +40s; " + probe + "; outage P; +59999ms; admit P: wait outage; +1ms; " + probe + "; outage P; +59999ms; admit P: wait outage; +1ms; " + probe, "0s closed outage"},
		{"counts a failed connect as a failed probe", down + "; +5s; admit P: connect outage; unconnected P; +9999ms; admit P: wait outage; +1ms; admit P: connect outage", "0s closed outage"},
		{"admits another probe at once when one is not used", down + "; +5s; admit P: connect outage; back P; admit Q as 2: connect outage; admit Q as 2 connected: probe outage; back Q; admit P: connect outage", "0s closed outage"},
		{"repeats the pause after a probe whose fault is charged to its request", down + "; +5s; " + probe + "; none P; +4999ms; admit Q: wait outage; +1ms; admit Q: connect outage", "0s closed outage"},
		{"prefers an interactive call as the probe", down + "; +4500ms; admit P: wait outage; +500ms; admit Q as 2 bulk: wait outage 1s; admit P: connect outage", "0s closed outage"},
		{"admits a bulk call as the probe when no interactive call waits", down + "; +5s; admit Q as 2 bulk: connect outage", "0s closed outage"},
		{"takes a token for a probe", "rate 1/m; " + fiveCalls + "; throttle A 1s; +1s; admit P: wait throttled 1s; +58s; admit P: wait throttled 980ms; +980ms; admit P: connect throttled; admit P connected: probe throttled 20ms", "0s closed throttled"},
		{"stays closed after the success of a call that was sent before it closed", fiveCalls + "; +1s; admit F: grant; outage A B C D E; +1s; success F; admit G: wait outage", "1s closed outage"},
		{"stays open after the faults of calls that were sent before it opened", fiveCalls + "; +1s; admit F: grant; admit G: grant; admit H: grant; admit I: grant; admit J: grant; outage A B C D E; +5s; " + probe + "; success P; outage F G H I J; no_credit F; throttle G; admit Q: grant", "1s closed outage, 6s open"},

		{"ramps after more than 10 s closed", down + "; +11s; " + probe + "; success P; admit A: grant; admit B: grant; admit C: grant; admit D: grant; admit E: wait rate 1s; +15s; admit F: grant", "0s closed outage, 11s ramping, 26s open"},
		{"does not ramp at a rate of 1/s", "rate 1/s; " + down + "; +11s; " + probe + "; success P", "0s closed outage, 11s open"},
		{"closes on an outage during the ramp", down + "; +11s; " + probe + "; success P; +3s; admit A: grant; admit B: grant; admit C: grant; admit D: grant; outage A B C D; +5s; admit E: grant; outage E; admit F: wait outage", "0s closed outage, 11s ramping, 19s closed outage"},

		{"stays closed until Retry-After", fiveCalls + "; throttle A 7s; +6999ms; admit P: wait throttled 1ms; +1ms; admit P: connect throttled", "0s closed throttled"},
		{"stays closed for at least 1 s after a short Retry-After", fiveCalls + "; throttle A 1ms; admit P: wait throttled 1s; +1s; admit P: connect throttled", "0s closed throttled"},
		{"stays closed for at most 10 min after a long Retry-After", fiveCalls + "; throttle A 24h; +599999ms; admit P: wait throttled; +1ms; admit P: connect throttled", "0s closed throttled"},
		{"is closed longer, and never shorter, by further 429s", fiveCalls + "; throttle A 7s; throttle B 9s; throttle C 3s; throttle D; +8999ms; admit P: wait throttled; +1ms; admit P: connect throttled", "0s closed throttled"},
		{"counts concurrent 429s once", fiveCalls + "; throttle A B C D E; +1s; admit P: connect throttled", "0s closed throttled"},
		{"doubles the pause after each 429 without Retry-After", fiveCalls + "; throttle A; +1s; admit P: connect throttled; admit P connected: probe throttled; throttle P; +1999ms; admit P: wait throttled; +1ms; admit P: connect throttled; admit P connected: probe throttled; success P; +1s; admit Q: grant; throttle Q; +1999ms; admit P: wait throttled; +1ms; admit P: connect throttled", "0s closed throttled, 3s open, 4s closed throttled"},
		{"undoes one doubling after four successes", fiveCalls + "; throttle A; +1s; admit P: connect throttled; admit P connected: probe throttled; throttle P; +2s; admit P: connect throttled; admit P connected: probe throttled; success P B C D E; admit Q: grant; throttle Q; +999ms; admit P: wait throttled; +1ms; admit P: connect throttled", "0s closed throttled, 3s open, 3s closed throttled"},
		{"reports an outage when the probe after a 429 fails", fiveCalls + "; throttle A; +1s; admit P: connect throttled; admit P connected: probe throttled; outage P; +4999ms; admit P: wait outage; +1ms; admit P: connect outage", "0s closed throttled, 1s closed outage"},
		{"waits for the Retry-After of a 429 during an outage", down + "; throttle A 30s; +29999ms; admit P: wait outage; +1ms; admit P: connect outage; admit P connected: probe outage; throttle P; +1s; admit P: connect throttled", "0s closed outage, 30s closed throttled"},

		{"closes for a minute without credit, and doubles the pause after each probe", noCredits + "; +59999ms; admit P: wait no_credit; +1ms; admit P: connect no_credit; admit P connected: probe no_credit; no_credit P; +119999ms; admit P: wait no_credit; +1ms; admit P: connect no_credit; admit P connected: probe no_credit; success P", "0s closed no_credit, 3m0s ramping"},
		{"closes when the account's limit is reached, and keeps that reason", fiveCalls + "; limit_reached A; no_credit B; admit F: wait limit_reached", "0s closed limit_reached"},
		{"replaces the reason outage by no_credit", down + "; no_credit A; +59s; admit P: wait no_credit", "0s closed outage, 0s closed no_credit"},
		{"replaces the reason throttled by no_credit, and still waits for its Retry-After", fiveCalls + "; throttle A 2m; no_credit B; +119s; admit P: wait no_credit; +1s; admit P: connect no_credit", "0s closed throttled, 0s closed no_credit"},
		{"counts a fault of the process that is to connect as the probe's", noCredits + "; +1m; admit P: connect no_credit; no_credit P; +119s; admit P: wait no_credit; +1s; admit P: connect no_credit", "0s closed no_credit"},
		{"keeps the reason no_credit after probes that fail for another reason", noCredits + "; outage B C D E; throttle B 1s; +1m; admit P: connect no_credit; admit P connected: probe no_credit; outage P; +119s; admit P: wait no_credit; +1s; admit P: connect no_credit; unconnected P; +239s; admit P: wait no_credit; +1s; admit P: connect no_credit; admit P connected: probe no_credit; throttle P 10m; +599s; admit P: wait no_credit", "0s closed no_credit"},

		{"is closed from a pause to the resume", "pause; pause; admit A: wait paused 1s; +1h; admit A: wait paused; resume; resume; admit A: grant", "0s closed paused, 1h0m0s open"},
		{"returns to an outage after a pause", down + "; pause; +1h; admit P: wait paused; resume; admit P: connect outage", "0s closed outage, 0s closed paused, 1h0m0s closed outage"},
		{"closes without credit after a pause during which that was reported", fiveCalls + "; pause; no_credit A; admit P: wait paused; +1s; resume; admit P: connect no_credit; admit P connected: probe no_credit; success P; admit Q: grant", "0s closed paused, 1s closed no_credit, 1s open"},
		{"stays paused after a successful probe", down + "; +5s; " + probe + "; pause; success P; admit Q: wait paused; resume; admit Q: connect outage", "0s closed outage, 5s closed paused, 5s closed outage"},
		{"probes at once after a resume", down + "; resume; +200ms; admit P: connect outage", "0s closed outage"},
		{"starts with short pauses again after a resume", down + "; +5s; admit P: connect outage; admit P connected: probe outage; outage P; +10s; admit P: connect outage; admit P connected: probe outage; outage P; resume; admit P: connect outage; admit P connected: probe outage; outage P; +4999ms; admit P: wait outage; +1ms; admit P: connect outage", "0s closed outage"},
		{"ignores a probe that was sent before a resume", noCredits + "; +1m; admit P: connect no_credit; admit P connected: probe no_credit; +1s; resume; no_credit P; admit Q as 2: connect no_credit; admit Q as 2 connected: probe no_credit; success Q; admit R: grant", "0s closed no_credit, 1m1s ramping"},

		{"closes when five calls hang", fiveCalls + "; ~2s; admit F: grant; heartbeat 1; +1ms; heartbeat 1; admit G: wait outage", "2.001s closed outage"},
		{"closes when the watch finds hanging calls", fiveCalls + "; ~3s", "2.1s closed outage"},
		{"stays open when four calls hang", "admit A: grant; admit B: grant; admit C: grant; success A; +1h; admit D: grant; admit E: grant; ~3s; admit F: grant", ""},
		{"stays open when calls hang and others are answered", fiveCalls + "; ~1s; admit F: grant; ~900ms; success F; admit G: grant; ~1900ms; admit H: grant", ""},
		{"closes when calls take much longer than usual", fiveCalls + "; success A in 2s; ~1s; admit A: grant; ~7s; admit F: grant; ~2s; admit G: wait outage", "9.1s closed outage"},
		{"ignores hanging calls that were sent before it opened", fiveCalls + "; +1s; admit F: grant; no_credit F; +1m; admit P: connect no_credit; admit P connected: probe no_credit; success P; ~3s; admit G: grant", "1s closed no_credit, 1m1s ramping"},
		{"ignores calls of a process that died long ago", fiveCalls + "; +2m; ~3s; admit F: grant", ""},
		{"ignores calls of a dead process in an idle fleet", "admit A as 2: grant; admit B as 2: grant; admit C as 2: grant; admit D as 2: grant; admit E as 2: grant; +1900ms; heartbeat 2; ~1m; admit F: grant", ""},
		{"closes when the calls of one of two processes hang", "admit A as 2: grant; admit B as 2: grant; admit C as 2: grant; admit D as 2: grant; admit E as 2: grant; ~1999ms; heartbeat 2; ~1ms; heartbeat 2; ~1s", "2.1s closed outage"},
		{"stays open when answers could not be recorded because Redis was unavailable", fiveCalls + "; ~1s; +1m; ~1900ms; success A B C D E; ~10s; admit F: grant", ""},
		{"closes when calls hang after Redis was unavailable", fiveCalls + "; ~1s; +9s; ~5s", "12.2s closed outage"},

		{"stays open for other credentials when some are refused", "admit A with old: grant; admit B: grant; refused A; admit C with old: wait refused 1s; admit C: grant; success B", "0s closed refused"},
		{"probes with refused credentials after a minute", "admit A with old: grant; refused A; +59999ms; admit B with old: wait refused 1ms; +1ms; admit B with old: connect refused; admit B with old connected: probe refused; admit C with old as 2: wait refused 1s; admit C: grant; success B; admit C with old: grant", "0s closed refused, 1m0s open refused"},
		{"doubles the pause of refused credentials, up to 10 min", "admit A with old: grant; refused A; +1m; admit B with old: connect refused; admit B with old connected: probe refused; refused B; +119s; admit B with old: wait refused; +1s; admit B with old: connect refused; admit B with old connected: probe refused; refused B; +4m; admit B with old: connect refused; admit B with old connected: probe refused; refused B; +8m; admit B with old: connect refused; admit B with old connected: probe refused; refused B; +599s; admit B with old: wait refused; +1s; admit B with old: connect refused; admit B with old connected: probe refused; outage B; +599s; admit B with old: wait refused", "0s closed refused"},
		{"repeats the pause of refused credentials after an outage of their probe", "admit A with old: grant; refused A; +1m; admit B with old: connect refused; admit B with old connected: probe refused; outage B; +59999ms; admit B with old: wait refused; +1ms; admit B with old: connect refused; admit B with old connected: probe refused", "0s closed refused"},
		{"starts with short pauses of refused credentials again after a resume, and ignores their earlier probe", "admit A with old: grant; refused A; +1m; admit B with old: connect refused; admit B with old connected: probe refused; refused B; +2m; admit B with old: connect refused; admit B with old connected: probe refused; resume; refused B; admit C with old: connect refused; admit C with old connected: probe refused; refused C; +59999ms; admit C with old: wait refused; +1ms; admit C with old: connect refused", "0s closed refused"},
		{"probes with refused credentials at once after a resume", "admit A with old: grant; refused A; +1s; admit B with old: wait refused; resume; admit B with old: connect refused", "0s closed refused"},
		{"admits another probe with refused credentials when one is not used or not answered", "admit A with old: grant; refused A; +1m; admit B with old: connect refused; admit B with old connected: probe refused; back B; admit C with old: connect refused; admit C with old connected: probe refused; +75s; admit D with old as 2: connect refused; admit D with old as 2 connected: probe refused", "0s closed refused"},
		{"ignores outcomes of calls that were sent before the credentials were refused or accepted", "admit A with old: grant; +1s; admit B with old: grant; admit C with old: grant; refused B; success A; admit D with old: wait refused; +1m; admit D with old: connect refused; admit D with old connected: probe refused; success D; refused C; admit E with old: grant", "1s closed refused, 1m1s open refused"},
		{"refuses credentials also while it is closed", "admit F with old: grant; refused F; +1s; " + down + "; +5s; admit P with old: wait refused; admit P: connect outage; admit P connected: probe outage; refused P; admit Q with third: connect outage; admit Q with third connected: probe outage; success Q; admit R with third: grant", "0s closed refused, 1s closed outage, 6s closed refused, 6s open"},
		{"ignores a grant that was not used", fiveCalls + "; back A B C D E; admit F: wait rate", ""},
	}
}
