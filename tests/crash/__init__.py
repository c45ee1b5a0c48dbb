"""Crash tests: processes that die at every moment, simulated and real, and what the next one makes of it."""
