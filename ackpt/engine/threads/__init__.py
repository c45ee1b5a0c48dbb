"""The only room with threads: the event loop's thread and the bounded pool of I/O workers."""
