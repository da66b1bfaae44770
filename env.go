package cacheman

import (
	"context"
	"os"
)

// Env returns the environment of the process as a cache: Get gives the value of
// a variable, or ErrNotFound if it is not set, and with the ctx of a builder is
// tracked. Each variable is looked at once after the Manager was opened, and
// again after Refresh or Recheck: a program that sets one with [os.Setenv] calls
// Recheck with its name then.
func Env(m *Manager) (*Cache[string, string], error) {
	return own(m, envCache, func() Spec[string, string] {
		return Spec[string, string]{Probe: func(_ context.Context, name, _ string, _ bool) (string, error) {
			v, ok := os.LookupEnv(name)
			if !ok {
				return "", ErrNotFound
			}
			return v, nil
		}}
	})
}
