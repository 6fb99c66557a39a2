package admission

type tale struct{ name, steps, history string }

func stories() []tale {
	return []tale{
		{"five in a row from different requests", down + "; ask F: wait outage 1s", "0s closed outage"},
		{"the same request again is one", five + "; outage A B C D; outage A A A A; ask F: wait rate", ""},
		{"a success resets the row", five + "; outage A B C D; success E; outage A B C; +1s; ask F: grant", ""},
		{"a wrong request is a sign of life", five + "; outage A B C D; alive E; outage A B C; +1s; ask F: grant", ""},
		{"a spent fault says nothing", five + "; outage A B C D; none E; +1s; ask F: grant", ""},
		{"14 of the last 20", five + "; success A B C D E A; outage A B C D; success E; outage A B C D; success E; outage A B C D; success E; outage A; +1s; ask F: grant; outage B; ask G: wait outage", "1s closed outage"},
		{"13 that fell out of the 20", five + "; outage A B C D; success A; outage A B C D; success A; outage A B C D; success A B C D E; outage A B; +1s; ask F: grant", ""},

		{"a probe connects, calls, opens", down + "; +5s; " + probe + "; +1s; success P; ask G: grant", "0s closed outage, 6s open"},
		{"a probe too early", down + "; +4999ms; ask P: wait outage 1ms", "0s closed outage"},
		{"a wrong request opens as well", down + "; +5s; " + probe + "; alive P; ask G: grant", "0s closed outage, 5s open"},
		{"one probe in the fleet", down + "; +5s; ask P: connect outage; ask Q as 2: wait outage 1s; ask R: wait outage 1s; ask Q as 2 connected: wait outage; ask P connected: probe outage; ask P connected: wait outage; ask Q as 2: wait outage", "0s closed outage"},
		{"the order to connect, again when its reply was lost", down + "; +5s; ask P: connect outage; ask P: connect outage", "0s closed outage"},
		{"another request of the chosen process", down + "; +5s; ask P: connect outage; ask Q connected: probe outage; success P; ask R: wait outage; success Q; ask R: grant", "0s closed outage, 5s open"},
		{"who does not connect is replaced", down + "; +5s; ask P: connect outage; +9999ms; ask Q as 2: wait outage; +1ms; ask Q as 2: connect outage; ask P connected: wait outage; ask Q as 2 connected: probe outage", "0s closed outage"},
		{"who connects late and is alone, probes", down + "; +5s; ask P: connect outage; +30s; ask P connected: probe outage", "0s closed outage"},
		{"a probe without an answer is replaced", down + "; +5s; " + probe + "; +75s; ask Q as 2: connect outage; success P; ask Q as 2 connected: probe outage; success Q; ask R: grant", "0s closed outage, 1m20s ramping"},
		{"a failed probe waits twice as long, to a minute", down + "; +5s; " + probe + "; outage P; +9999ms; ask P: wait outage; +1ms; " + probe + "; outage P; +20s; " + probe + "; outage P; +40s; " + probe + "; outage P; +59999ms; ask P: wait outage; +1ms; " + probe + "; outage P; +59999ms; ask P: wait outage; +1ms; " + probe, "0s closed outage"},
		{"no connection is a failed probe", down + "; +5s; ask P: connect outage; unconnected P; +9999ms; ask P: wait outage; +1ms; ask P: connect outage", "0s closed outage"},
		{"a probe not used is free at once", down + "; +5s; ask P: connect outage; back P; ask Q as 2: connect outage; ask Q as 2 connected: probe outage; back Q; ask P: connect outage", "0s closed outage"},
		{"a spent fault of the probe", down + "; +5s; " + probe + "; none P; +4999ms; ask Q: wait outage; +1ms; ask Q: connect outage", "0s closed outage"},
		{"interactive probes first", down + "; +4500ms; ask P: wait outage; +500ms; ask Q as 2 bulk: wait outage 1s; ask P: connect outage", "0s closed outage"},
		{"bulk probes where nobody else is", down + "; +5s; ask Q as 2 bulk: connect outage", "0s closed outage"},
		{"a probe takes a token", "rate 1/m; " + five + "; throttle A 1s; +1s; ask P: wait throttled 1s; +58s; ask P: wait throttled 980ms; +980ms; ask P: connect throttled; ask P connected: probe throttled 20ms", "0s closed throttled"},
		{"a late success opens nothing", five + "; +1s; ask F: grant; outage A B C D E; +1s; success F; ask G: wait outage", "1s closed outage"},
		{"what was sent before it opened says nothing", five + "; +1s; ask F: grant; ask G: grant; ask H: grant; ask I: grant; ask J: grant; outage A B C D E; +5s; " + probe + "; success P; outage F G H I J; no_credit F; throttle G; ask Q: grant", "1s closed outage, 6s open"},

		{"a ramp after a long closure", down + "; +11s; " + probe + "; success P; ask A: grant; ask B: grant; ask C: grant; ask D: grant; ask E: wait rate 1s; +15s; ask F: grant", "0s closed outage, 11s ramping, 26s open"},
		{"no ramp at 1 a second", "rate 1/s; " + down + "; +11s; " + probe + "; success P", "0s closed outage, 11s open"},
		{"an outage during the ramp", down + "; +11s; " + probe + "; success P; +3s; ask A: grant; ask B: grant; ask C: grant; ask D: grant; outage A B C D; +5s; ask E: grant; outage E; ask F: wait outage", "0s closed outage, 11s ramping, 19s closed outage"},

		{"until Retry-After", five + "; throttle A 7s; +6999ms; ask P: wait throttled 1ms; +1ms; ask P: connect throttled", "0s closed throttled"},
		{"Retry-After of nothing much", five + "; throttle A 1ms; ask P: wait throttled 1s; +1s; ask P: connect throttled", "0s closed throttled"},
		{"Retry-After of a day", five + "; throttle A 24h; +599999ms; ask P: wait throttled; +1ms; ask P: connect throttled", "0s closed throttled"},
		{"more 429s extend, and never shorten", five + "; throttle A 7s; throttle B 9s; throttle C 3s; throttle D; +8999ms; ask P: wait throttled; +1ms; ask P: connect throttled", "0s closed throttled"},
		{"a storm is one", five + "; throttle A B C D E; +1s; ask P: connect throttled", "0s closed throttled"},
		{"without Retry-After twice as long each time", five + "; throttle A; +1s; ask P: connect throttled; ask P connected: probe throttled; throttle P; +1999ms; ask P: wait throttled; +1ms; ask P: connect throttled; ask P connected: probe throttled; success P; +1s; ask Q: grant; throttle Q; +1999ms; ask P: wait throttled; +1ms; ask P: connect throttled", "0s closed throttled, 3s open, 4s closed throttled"},
		{"four successes forgive one", five + "; throttle A; +1s; ask P: connect throttled; ask P connected: probe throttled; throttle P; +2s; ask P: connect throttled; ask P connected: probe throttled; success P B C D E; ask Q: grant; throttle Q; +999ms; ask P: wait throttled; +1ms; ask P: connect throttled", "0s closed throttled, 3s open, 3s closed throttled"},
		{"a throttle's probe that fails is an outage", five + "; throttle A; +1s; ask P: connect throttled; ask P connected: probe throttled; outage P; +4999ms; ask P: wait outage; +1ms; ask P: connect outage", "0s closed throttled, 1s closed outage"},
		{"429 during an outage", down + "; throttle A 30s; +29999ms; ask P: wait outage; +1ms; ask P: connect outage; ask P connected: probe outage; throttle P; +1s; ask P: connect throttled", "0s closed outage, 30s closed throttled"},

		{"no credit", noCredits + "; +59999ms; ask P: wait no_credit; +1ms; ask P: connect no_credit; ask P connected: probe no_credit; no_credit P; +119999ms; ask P: wait no_credit; +1ms; ask P: connect no_credit; ask P connected: probe no_credit; success P", "0s closed no_credit, 3m0s ramping"},
		{"limit reached", five + "; limit_reached A; no_credit B; ask F: wait limit_reached", "0s closed limit_reached"},
		{"no credit wins over an outage", down + "; no_credit A; +59s; ask P: wait no_credit", "0s closed outage, 0s closed no_credit"},
		{"no credit wins over a throttle, and the throttle holds", five + "; throttle A 2m; no_credit B; +119s; ask P: wait no_credit; +1s; ask P: connect no_credit", "0s closed throttled, 0s closed no_credit"},
		{"trouble of the one who is to connect is the probe's", noCredits + "; +1m; ask P: connect no_credit; no_credit P; +119s; ask P: wait no_credit; +1s; ask P: connect no_credit", "0s closed no_credit"},
		{"no credit stays the reason, whatever probes meet", noCredits + "; outage B C D E; throttle B 1s; +1m; ask P: connect no_credit; ask P connected: probe no_credit; outage P; +119s; ask P: wait no_credit; +1s; ask P: connect no_credit; unconnected P; +239s; ask P: wait no_credit; +1s; ask P: connect no_credit; ask P connected: probe no_credit; throttle P 10m; +599s; ask P: wait no_credit", "0s closed no_credit"},

		{"a pause, and on", "pause; pause; ask A: wait paused 1s; +1h; ask A: wait paused; resume; resume; ask A: grant", "0s closed paused, 1h0m0s open"},
		{"a pause over an outage", down + "; pause; +1h; ask P: wait paused; resume; ask P: connect outage", "0s closed outage, 0s closed paused, 1h0m0s closed outage"},
		{"no credit underneath a pause", five + "; pause; no_credit A; ask P: wait paused; +1s; resume; ask P: connect no_credit; ask P connected: probe no_credit; success P; ask Q: grant", "0s closed paused, 1s closed no_credit, 1s open"},
		{"a pause during a probe", down + "; +5s; " + probe + "; pause; success P; ask Q: wait paused; resume; ask Q: connect outage", "0s closed outage, 5s closed paused, 5s closed outage"},
		{"a resume probes at once", down + "; resume; +200ms; ask P: connect outage", "0s closed outage"},

		{"a hang", five + "; +2s; ask F: grant; +1ms; ask G: wait outage", "2.001s closed outage"},
		{"four that hang are no hang", "ask A: grant; ask B: grant; ask C: grant; success A; +1h; ask D: grant; ask E: grant; +3s; ask F: grant", ""},
		{"others are answered", five + "; +1s; ask F: grant; +1500ms; success F; ask G: grant; +1900ms; ask H: grant", ""},
		{"as slow as usual, and slower", five + "; success A in 2s; +1s; ask A: grant; +7s; ask F: grant; +2001ms; ask G: wait outage", "10.001s closed outage"},
		{"what hung before it opened", five + "; +1s; ask F: grant; no_credit F; +1m; ask P: connect no_credit; ask P connected: probe no_credit; success P; +3s; ask G: grant", "1s closed no_credit, 1m1s ramping"},
		{"what died with its process", five + "; +2m; ask F: grant", ""},

		{"credentials are refused by themselves", "ask A with old: grant; ask B: grant; refused A; ask C with old: wait refused 1s; ask C: grant; success B", "0s closed refused"},
		{"a refused credential's own probe", "ask A with old: grant; refused A; +59999ms; ask B with old: wait refused 1ms; +1ms; ask B with old: connect refused; ask B with old connected: probe refused; ask C with old as 2: wait refused 1s; ask C: grant; success B; ask C with old: grant", "0s closed refused, 1m0s open refused"},
		{"it waits longer each time, to 10 minutes", "ask A with old: grant; refused A; +1m; ask B with old: connect refused; ask B with old connected: probe refused; refused B; +119s; ask B with old: wait refused; +1s; ask B with old: connect refused; ask B with old connected: probe refused; refused B; +4m; ask B with old: connect refused; ask B with old connected: probe refused; refused B; +8m; ask B with old: connect refused; ask B with old connected: probe refused; refused B; +599s; ask B with old: wait refused; +1s; ask B with old: connect refused; ask B with old connected: probe refused; outage B; +599s; ask B with old: wait refused", "0s closed refused"},
		{"its probe that says nothing waits no longer", "ask A with old: grant; refused A; +1m; ask B with old: connect refused; ask B with old connected: probe refused; outage B; +59999ms; ask B with old: wait refused; +1ms; ask B with old: connect refused; ask B with old connected: probe refused", "0s closed refused"},
		{"a resume probes refused credentials at once", "ask A with old: grant; refused A; +1s; ask B with old: wait refused; resume; ask B with old: connect refused", "0s closed refused"},
		{"its probe not used", "ask A with old: grant; refused A; +1m; ask B with old: connect refused; ask B with old connected: probe refused; back B; ask C with old: connect refused; ask C with old connected: probe refused; +75s; ask D with old as 2: connect refused; ask D with old as 2 connected: probe refused", "0s closed refused"},
		{"a success from before it was refused", "ask A with old: grant; +1s; ask B with old: grant; ask C with old: grant; refused B; success A; ask D with old: wait refused; +1m; ask D with old: connect refused; ask D with old connected: probe refused; success D; refused C; ask E with old: grant", "1s closed refused, 1m1s open refused"},
		{"refused behind a closed gate", "ask F with old: grant; refused F; +1s; " + down + "; +5s; ask P with old: wait refused; ask P: connect outage; ask P connected: probe outage; refused P; ask Q with third: connect outage; ask Q with third connected: probe outage; success Q; ask R with third: grant", "0s closed refused, 1s closed outage, 6s closed refused, 6s open"},
		{"a grant that was not used", five + "; back A B C D E; ask F: wait rate", ""},
	}
}
