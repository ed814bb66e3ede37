"""The generator: from a seed to the steps of a session. It looks at no answer, so that a seed always gives the same."""
