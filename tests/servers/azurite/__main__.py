"""Install the emulator."""

from __future__ import annotations

from tests.servers.azurite import install

install()
