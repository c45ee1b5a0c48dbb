"""What the tests of the `az://` backend share: an environment of its own, opening it, bodies."""

from __future__ import annotations

import random
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from yarl import URL

from ackpt.backends.az import AzBackend
from ackpt.backends.az.account import Account
from ackpt.backends.az.options import AzOptions
from ackpt.backends.az.shared_key import sign
from ackpt.backends.base import Backend, Body, PartReceipt, Upload
from ackpt.backends.http.message import Request
from ackpt.backends.http.purpose import Purpose
from ackpt.transfer.body import BytesBody
from ackpt.url import StorageURL

VARIABLES = (
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_TENANT_ID",
    "AZURE_TOKEN_CREDENTIALS",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "MSI_ENDPOINT",
)


def isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know nothing of this machine's own Azure configuration."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def emulator() -> Account:
    """Return the account that every emulator has."""
    return Account.find(
        AzOptions(), {"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"}, where="a test"
    )


def make_container(url: str, name: str) -> None:
    """Make a container in an emulator."""
    account = emulator()
    assert account.key is not None
    target = URL(f"{url}/{name}?restype=container", encoded=True)
    purpose = Purpose(action="create", bucket=name)
    request = Request(method="PUT", url=target, purpose=purpose, headers={"x-ms-version": "2021-12-02"})
    headers = sign(request, account=account.name, key=account.key, now=datetime.now(UTC))
    urllib.request.urlopen(
        urllib.request.Request(str(target), method="PUT", headers={**request.headers, **headers}), timeout=10
    ).close()


def url_of(endpoint: str, container: str, path: str = "run", **options: str) -> str:
    """Write a URL."""
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    place = f"az://{container}/{quote(path)}" if path else f"az://{container}"
    return f"{place}?endpoint={endpoint}&{query}"


@asynccontextmanager
async def open_az(
    endpoint: str, container: str, path: str = "run", **options: str
) -> AsyncIterator[AzBackend]:
    """Open the backend on a server."""
    backend = AzBackend.from_url(StorageURL.parse(url_of(endpoint, container, path, **options)))
    try:
        yield backend
    finally:
        await backend.aclose()


def data_of(size: int, seed: int = 0) -> bytes:
    """Make bytes."""
    return random.Random(seed).randbytes(size)


def body_of(data: bytes) -> Body:
    """Make a body."""
    return BytesBody(data)


async def read(backend: Backend, key: str, start: int = 0, stop: int | None = None) -> bytes:
    """Get bytes of an object, all at once."""
    async with aclosing(backend.get(key, start, stop)) as blocks:
        return b"".join([block async for block in blocks])


async def send(upload: Upload, pieces: Sequence[bytes]) -> list[PartReceipt]:
    """Put parts in order."""
    return [await upload.put_part(number, body_of(piece)) for number, piece in enumerate(pieces, 1)]


async def keys(backend: Backend, prefix: str = "") -> list[str]:
    """List keys."""
    return [info.key async for info in backend.list(prefix)]
