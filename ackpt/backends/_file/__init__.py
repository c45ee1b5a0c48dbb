"""The insides of the `file` backend; `ackpt.backends.file` is its face."""
