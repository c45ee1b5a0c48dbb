"""The demonstration: a run that is killed in the middle of a save, comes back, and loses nothing."""
