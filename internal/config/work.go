package config

// LoadWork reads how requests are worked on, for a command that makes no links
// and tells how workers with the same settings would. The error is always an
// [*Error].
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
