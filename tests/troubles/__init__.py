"""Troubles of every kind, end to end: what a saver makes of them, and that nothing is lost."""
