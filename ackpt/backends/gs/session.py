"""One aiohttp session: requests with authorization, time limits, and errors of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from ackpt.backends.gs.credentials import Tokens
from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.environment import proxy_for, tls_context
from ackpt.backends.gs.errors import Purpose, read_refusal, translate, transport_errors
from ackpt.backends.gs.payload import Blocks, BlocksPayload, whole
from ackpt.errors import ClosedError, StorageError

_ERROR_BYTES = 64 << 10
_READ_BYTES = 128 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Hold a request's body: its blocks, which can be begun again, their size and their type.

    `in_hand` says that they are in memory already, so that reading them cannot fail.
    """

    blocks: Blocks
    size: int
    kind: str = "application/octet-stream"
    in_hand: bool = False

    @classmethod
    def of(cls, data: bytes, kind: str) -> Content:
        """Make a body of bytes."""
        return cls(blocks=whole(data), size=len(data), kind=kind, in_hand=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Hold one request; `ok` are the statuses that are answers, any other is an error.

    `timeout_secs`, where given, is the time until the answer begins.
    """

    method: str
    url: URL
    purpose: Purpose
    ok: frozenset[int] = frozenset({200})
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content | None = None
    timeout_secs: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Hold an answer whose body has been read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)

    def json(self, purpose: Purpose) -> dict[str, object]:
        """Read the body as a JSON object.

        Raises:
            StorageError: it is none.
        """
        try:
            fields = json.loads(self.body)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise StorageError(
                f"{purpose}: expected a JSON object, got {self.body[:80]!r}; does the endpoint speak the "
                "Cloud Storage JSON API?",
                key=purpose.key,
            )
        return fields


class Session:
    """Send requests to one endpoint; as many at a time as the caller wants, the core bounds them.

    Nothing is retried, but for two things: a request answered with 401 is sent once more with a
    renewed token; and aiohttp sends an idempotent request without a body once more when a
    connection that was kept alive turns out to be dropped.
    """

    def __init__(self, endpoint: Endpoint, tokens: Tokens, *, timeout_secs: float) -> None:
        self._endpoint = endpoint
        self._tokens = tokens
        self._timeout_secs = timeout_secs
        self._client: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def send(self, request: Request) -> Reply:
        """Send a request and read the whole answer.

        Raises:
            StorageError: its status is not in `request.ok`, or no answer came; the subclass says what.
        """
        async with self._answer(request) as response:
            return Reply(status=response.status, headers=response.headers, body=await response.read())

    async def stream(self, request: Request, *, empty: int) -> AsyncGenerator[bytes, None]:
        """Send a request and iterate over the answer's body; with the status `empty` it has no bytes.

        Raises as `send`, at the first step.
        """
        async with self._answer(request) as response:
            if response.status == empty:
                return
            async for block in response.content.iter_chunked(_READ_BYTES):
                yield block

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        self._closed = True
        await self._tokens.aclose()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @asynccontextmanager
    async def _answer(self, request: Request) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Hold the answer, with a status that is wanted."""
        client = await self._open(request.purpose)
        ours = self._endpoint.owns(request.url)
        authorization = await self._tokens.headers() if ours else {}
        for may_renew in (ours, False):
            async with self._exchange(client, request, authorization) as response:
                if response.status in request.ok:
                    yield response
                    return
                refusal = read_refusal(
                    response.status, response.headers, await response.content.read(_ERROR_BYTES)
                )
            if refusal.status != 401 or not may_renew or not await self._tokens.renew(authorization):
                raise translate(request.purpose, refusal)
            authorization = await self._tokens.headers()

    @asynccontextmanager
    async def _exchange(
        self, client: aiohttp.ClientSession, request: Request, authorization: Mapping[str, str]
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send the request once, and translate what the connection fails with."""
        timeout_secs = request.timeout_secs or self._timeout_secs
        payload = self._payload(request.content)
        try:
            with transport_errors(request.purpose, self._endpoint.base, timeout_secs):
                async with client.request(
                    request.method,
                    request.url,
                    data=payload,
                    headers={**request.headers, **authorization},
                    allow_redirects=False,
                    timeout=self._limits(timeout_secs),
                ) as response:
                    yield response
        except StorageError:
            if payload is not None and payload.error is not None:
                raise payload.error from None
            raise
        finally:
            if payload is not None:
                await payload.settled()

    def _payload(self, content: Content | None) -> BlocksPayload | None:
        if content is None:
            return None
        return BlocksPayload(
            content.blocks,
            content.size,
            content_type=content.kind,
            stall_secs=self._timeout_secs,
            in_hand=content.in_hand,
        )

    def _limits(self, answer_secs: float) -> aiohttp.ClientTimeout:
        """Limit each wait; the whole request has no limit, since a large body may take its time."""
        return aiohttp.ClientTimeout(
            total=None,
            connect=self._timeout_secs,
            sock_connect=self._timeout_secs,
            sock_read=answer_secs,
        )

    async def _open(self, purpose: Purpose) -> aiohttp.ClientSession:
        """Return the session, made at the first request: it belongs to the loop that runs then."""
        if self._client is not None:
            return self._client
        async with self._opening:
            if self._closed:
                raise ClosedError(f"{purpose}: the backend is closed")
            if self._client is None:
                self._client = await self._make(purpose)
            return self._client

    async def _make(self, purpose: Purpose) -> aiohttp.ClientSession:
        proxy = proxy_for(self._endpoint.base)
        with transport_errors(purpose, self._endpoint.base, self._timeout_secs):
            context = await asyncio.to_thread(tls_context)
        return aiohttp.ClientSession(
            # No limit here: a connection waited for in two places is waited for in neither's order.
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "ackpt", "Accept-Encoding": "identity"},
            trust_env=False,
            proxy=proxy,
        )
