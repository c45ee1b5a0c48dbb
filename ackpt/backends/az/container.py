"""One container: requests to it, with what every one of them needs."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import ClientConnectorDNSError

from ackpt.backends.az.access import SourceAccess, find_access
from ackpt.backends.az.account import Account
from ackpt.backends.az.checksums import Abilities
from ackpt.backends.az.endpoint import Endpoint
from ackpt.backends.az.errors import DIALECT
from ackpt.backends.az.options import AzOptions
from ackpt.backends.az.settings import BlobSettings
from ackpt.backends.http.batch import batch
from ackpt.backends.http.message import Content, Reply, Request
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.session import Session
from ackpt.errors import TransientError

VERSION: Final = "2021-12-02"
"""https://learn.microsoft.com/rest/api/storageservices/versioning-for-the-azure-storage-services"""

_OK: Final = frozenset({200})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Hold one request, about the container or about a blob in it.

    `name` is a blob's whole name. `timeout_secs`, where given, is the time until the answer begins.
    """

    purpose: Purpose
    method: str
    name: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: Content | None = None
    ok: frozenset[int] = _OK
    timeout_secs: float | None = None


class Container:
    """Send requests about one container, or blobs in it whose names begin with `base`.

    Keys are names without `base`; errors tell keys.
    """

    def __init__(self, name: str, base: str, options: AzOptions) -> None:
        """Make it without any I/O; raises InvalidOptionError."""
        account = Account.find(options, os.environ, where=f"az://{name}")
        self.name = name
        self.base = base
        self.settings = BlobSettings.of(options)
        self.abilities = Abilities(account.url)
        self._account = account.name
        self._endpoint = Endpoint(service=account.url, container=name, sas=account.sas)
        self._access = find_access(account, options)
        self._session = Session(self._access, DIALECT, timeout_secs=options.timeout_secs)

    def purpose(self, action: str, key: str | None = None, subject: Subject = Subject.OBJECT) -> Purpose:
        """Name a request, in the words of an error."""
        return Purpose(action=action, bucket=self.name, key=key, subject=subject, kind="container")

    async def send(self, ask: Ask) -> Reply:
        """Send a request and read the whole answer; raises as `Session.send`."""
        with self._hint():
            return await self._session.send(self._request(ask))

    async def send_batch(
        self, asks: Sequence[Ask], purpose: Purpose, *, ok: frozenset[int], timeout_secs: float
    ) -> Reply:
        """Send requests about blobs, without bodies, in one; read the whole answer to all of them.

        "Each subrequest is authorized separately", and has no version of its own
        (https://learn.microsoft.com/rest/api/storageservices/blob-batch#request-body).
        """
        parts = []
        for ask in asks:
            url = self._endpoint.url(ask.name, ask.query)
            part = Request(method=ask.method, url=url, purpose=ask.purpose, headers=ask.headers)
            headers = {**part.headers, **await self._access.headers(part), "Content-Length": "0"}
            parts.append(replace(part, headers=headers))
        return await self.send(
            Ask(
                purpose=purpose,
                method="POST",
                query={"restype": "container", "comp": "batch"},
                content=batch(parts),
                ok=ok,
                timeout_secs=timeout_secs,
            )
        )

    async def stream(self, ask: Ask, *, empty: int) -> AsyncGenerator[bytes, None]:
        """Send a request and iterate over the answer's body; see `Session.stream`."""
        with self._hint():
            async with aclosing(self._session.stream(self._request(ask), empty=empty)) as blocks:
                async for block in blocks:
                    yield block

    async def source(self, key: str) -> dict[str, str]:
        """Return the headers by which the store reads a blob of this container to copy it."""
        access: SourceAccess = await self._access.of_source(self.name, self.base + key)
        url = self._endpoint.source(self.base + key, access.sas)
        return {"x-ms-copy-source": url, **access.headers}

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        await self._session.aclose()

    def _request(self, ask: Ask) -> Request:
        return Request(
            method=ask.method,
            url=self._endpoint.url(ask.name, ask.query),
            purpose=ask.purpose,
            ok=ask.ok,
            headers={"x-ms-version": VERSION, **ask.headers},
            content=ask.content,
            timeout_secs=ask.timeout_secs,
        )

    @contextmanager
    def _hint(self) -> Iterator[None]:
        """Say what a name that nobody knows may mean: an account is a host, and a wrong one is none."""
        try:
            yield
        except TransientError as error:
            if isinstance(error.__cause__, ClientConnectorDNSError | socket.gaierror):
                error.add_note(f"is there a storage account {self._account!r}?")
            raise
