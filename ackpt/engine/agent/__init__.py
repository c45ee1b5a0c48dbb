"""The uploader process: it sends what a trainer stages, and outlives the trainer until all is sent."""
