"""The `ackpt` command: look at runs, fetch, verify, sweep and finish them from a shell."""
