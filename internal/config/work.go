package config

// LoadWork reads how requests are processed, for a command that creates no links
// itself, but estimates what workers with the same settings do. The error is always
// an [*Error].
func LoadWork(environ []string) (Work, error) {
	env := newEnvironment(environ)
	var w Work
	decode(env, &w)
	env.report(w.Validate()...)
	if len(env.problems) > 0 {
		return Work{}, &Error{Problems: env.problems}
	}
	return w, nil
}
