"""Training over a session: the only place of this package with models in it."""
