"""Security tests: no secret shows anywhere, and nothing leads out of its run."""
