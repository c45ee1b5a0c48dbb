"""One aiohttp session: requests with authorization, time limits, and errors of ours."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from ackpt.backends.http.authorization import Authorization
from ackpt.backends.http.environment import CA_VARIABLES, proxy_for, tls_context
from ackpt.backends.http.message import Content, Reply, Request
from ackpt.backends.http.payload import BlocksPayload
from ackpt.backends.http.purpose import Purpose
from ackpt.backends.http.refusal import Dialect, Refusal
from ackpt.backends.http.transport_errors import transport_errors
from ackpt.errors import AuthenticationError, ClosedError, PermissionDeniedError, StorageError

_ERROR_BYTES = 64 << 10
_READ_BYTES = 256 << 10
"""What aiohttp holds of an answer before it stops reading (at twice that); asyncio reads as much at once."""


class Session:
    """Send requests; as many at a time as the caller wants, the core bounds them.

    Nothing is retried, but for two things: a request refused for its credentials is sent once more
    with renewed ones, if there are any; and aiohttp sends an idempotent request without a body once
    more when a connection that was kept alive turns out to be dropped.
    """

    def __init__(
        self,
        authorization: Authorization,
        dialect: Dialect,
        *,
        timeout_secs: float,
        ca_variables: Sequence[str] = CA_VARIABLES,
    ) -> None:
        """Make a session without any I/O.

        `timeout_secs` is how long the store may keep us waiting for a connection, for a byte of an
        answer, and for taking a block of a body. `ca_variables` are the environment variables that
        may name authorities to trust, the first that is set counts.
        """
        self._authorization = authorization
        self._dialect = dialect
        self._timeout_secs = timeout_secs
        self._ca_variables = ca_variables
        self._limits = _limits(timeout_secs, timeout_secs)
        self._proxies: dict[URL, URL | None] = {}
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
            # As it came: pieces of one size would be cut, and put together, by copying.
            async for block, _ in response.content.iter_chunks():
                yield block

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        self._closed = True
        await self._authorization.aclose()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @asynccontextmanager
    async def _answer(self, request: Request) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Hold the answer, with a status that is wanted."""
        client = await self._open(request)
        authorization = await self._authorization.headers(request) if request.authorize else {}
        for may_renew in (request.authorize, False):
            async with self._exchange(client, request, authorization) as response:
                if response.status in request.ok:
                    yield response
                    return
                refusal = self._dialect.read(
                    response.status, response.headers, await response.content.read(_ERROR_BYTES)
                )
            if not may_renew or not await self._authorization.renew(authorization, refusal):
                raise self._refused(request.purpose, refusal)
            authorization = await self._authorization.headers(request)

    def _refused(self, purpose: Purpose, refusal: Refusal) -> StorageError:
        """Choose the error; where nobody asked, what the dialect says of credentials would mislead."""
        error = self._dialect.translate(purpose, refusal)
        if not isinstance(error, PermissionDeniedError) or not self._authorization.is_nobody():
            return error
        what = f"{purpose}: {refusal}" if isinstance(error, AuthenticationError) else str(error)
        return type(error)(
            f"{what}; no credentials were sent: leave anonymous=true away, or the variable that names an "
            "emulator",
            key=error.key,
        )

    @asynccontextmanager
    async def _exchange(
        self, client: aiohttp.ClientSession, request: Request, authorization: Mapping[str, str]
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send the request once, and translate what the connection fails with."""
        timeout_secs = request.timeout_secs or self._timeout_secs
        payload = self._payload(request.content)
        origin = request.url.origin()
        try:
            with transport_errors(request.purpose, str(origin), timeout_secs):
                async with client.request(
                    request.method,
                    request.url,
                    data=payload,
                    headers={**request.headers, **authorization},
                    # aiohttp names a type for a body that is not there, which nobody has signed.
                    skip_auto_headers=() if payload is not None else ("Content-Type",),
                    allow_redirects=False,
                    timeout=self._limits
                    if request.timeout_secs is None
                    else _limits(self._timeout_secs, request.timeout_secs),
                    proxy=self._proxy(origin),
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

    def _proxy(self, origin: URL) -> URL | None:
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(str(origin))
        return self._proxies[origin]

    async def _open(self, request: Request) -> aiohttp.ClientSession:
        """Return the session, made at the first request: it belongs to the loop that runs then."""
        if self._client is not None:
            return self._client
        async with self._opening:
            if self._closed:
                raise ClosedError(f"{request.purpose}: the backend is closed")
            if self._client is None:
                self._client = await self._make(request)
            return self._client

    async def _make(self, request: Request) -> aiohttp.ClientSession:
        try:
            context = await asyncio.to_thread(tls_context, self._ca_variables)
        except OSError as error:
            variables = ", ".join(name for name in self._ca_variables if name in os.environ)
            raise StorageError(
                f"{request.purpose}: the authorities to trust cannot be read ({error}); correct {variables}",
                key=request.purpose.key,
            ) from error
        return aiohttp.ClientSession(
            # No limit here: a connection waited for in two places is waited for in neither's order.
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            read_bufsize=_READ_BYTES,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "ackpt", "Accept-Encoding": "identity"},
            trust_env=False,
        )


def _limits(connect_secs: float, answer_secs: float) -> aiohttp.ClientTimeout:
    """Limit each wait; the whole request has no limit, since a large body may take its time."""
    return aiohttp.ClientTimeout(
        total=None, connect=connect_secs, sock_connect=connect_secs, sock_read=answer_secs
    )
