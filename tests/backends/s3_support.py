"""What the tests of the `s3://` backend share: an environment of its own, opening it, bodies."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from urllib.parse import quote

import pytest

from ackpt.backends.base import Backend, Body, PartReceipt, Upload
from ackpt.backends.s3 import S3Backend
from ackpt.options import MiB
from ackpt.transfer.body import BytesBody
from ackpt.url import StorageURL

PART = 5 * MiB
_NOWHERE = "/nonexistent/ackpt"
_VARIABLES: Mapping[str, str | None] = {
    "AWS_CONFIG_FILE": _NOWHERE,
    "AWS_SHARED_CREDENTIALS_FILE": _NOWHERE,
    "AWS_EC2_METADATA_DISABLED": "true",
    **dict.fromkeys(
        (
            "AWS_ACCESS_KEY_ID",
            "AWS_CA_BUNDLE",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_DEFAULT_PROFILE",
            "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        )
    ),
}


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str | None]) -> None:
    """Set environment variables, or unset them."""
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know nothing of this machine's own AWS configuration."""
    set_variables(monkeypatch, _VARIABLES)


def url_of(endpoint: str, bucket: str, path: str = "run", **options: str) -> str:
    """Write a URL."""
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    place = f"s3://{bucket}/{quote(path)}" if path else f"s3://{bucket}"
    return f"{place}?endpoint={endpoint}&{query}"


@asynccontextmanager
async def open_s3(endpoint: str, bucket: str, path: str = "run", **options: str) -> AsyncIterator[S3Backend]:
    """Open the backend on a server."""
    backend = S3Backend.from_url(StorageURL.parse(url_of(endpoint, bucket, path, **options)))
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
