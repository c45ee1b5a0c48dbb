"""What backends that speak HTTP share: a session, bodies on their way, time limits, transport errors.

Nothing here knows a store: how a request is authorized (`Authorization`) and what a refusal means
(`Dialect`) is passed in. Importing a module of this room may import aiohttp; this one does not.
"""
