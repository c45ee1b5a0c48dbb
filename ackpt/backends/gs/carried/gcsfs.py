"""`?driver=gcsfs`: the filesystem that dask, xarray and pandas use, which is asynchronous inside.

https://gcsfs.readthedocs.io. Its own call of the JSON API carries the requests, with its session and
its credentials, and with what fsspec's configuration says about `gcs`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import google.auth.exceptions
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError, NonRetryableError
from yarl import URL

from ackpt.backends.base import Body, ObjectInfo
from ackpt.backends.gs.carried.authorities import read_authorities
from ackpt.backends.gs.carried.carrier import Carrier, Page, Rewritten
from ackpt.backends.gs.credentials import auth_error, is_anonymous, load
from ackpt.backends.gs.encryption import key_headers, source_key_headers
from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.errors import DIALECT
from ackpt.backends.gs.json_object import read_object, read_page, read_resource
from ackpt.backends.gs.objects import FIELDS, ObjectSettings, related
from ackpt.backends.gs.options import GSOptions
from ackpt.backends.http.crc32c import encode
from ackpt.backends.http.environment import proxy_for
from ackpt.backends.http.payload import BlocksPayload
from ackpt.backends.http.purpose import Purpose
from ackpt.backends.http.renewal import Renewal
from ackpt.backends.http.transport_errors import transport_errors
from ackpt.errors import AuthenticationError, ClosedError, StorageError, TransientError
from ackpt.options import MiB

_READ_BYTES: Final = 8 * MiB
_OPEN_SECS: Final = 180.0
_ANSWER_SECS: Final = 120.0
"""See `copies.py`; a composition may take its time as well."""


class RefusedError(Exception):
    """Hold an answer with an error status, whole: gcsfs would tell some of it, each status in its way."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, authorization: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = headers
        self.body = body
        self.authorization = authorization
        """What the request was sent with."""


class OnceFileSystem(GCSFileSystem):  # type: ignore[misc]
    """Be gcsfs without its retries: each request is sent once, and a refusal is kept as it came."""

    cachable = False
    authorities: ssl.SSLContext | bool = True
    _refused = ""

    def drop_token(self, refused: str) -> bool:
        """Have the next request ask for a token other than `refused`; False where that was done in vain."""
        credentials = self.credentials.credentials
        if credentials is None or self._refused not in ("", refused):
            return False
        if not self._refused:
            self._refused = refused
            credentials.token = None
        return True

    async def send(self, method: str, path: str, *names: str, **rest: Any) -> bytes:
        """Send a request and return the answer's body; without a word of its headers, which may be keys.

        `_call` would log them.
        """
        _, _, _, body = await self._request(method, path, *names, **rest)
        return body

    async def _request(
        self, method: str, path: str, *names: str, headers: Mapping[str, str] | None = None, **rest: Any
    ) -> tuple[int, Mapping[str, str], aiohttp.RequestInfo, bytes]:
        """Send a request; `rest` are the body, the timeout and the query's parameters.

        Raises:
            RefusedError: the answer's status is an error.
        """
        sent = {name: rest.pop(name) for name in ("data", "json", "timeout") if name in rest}
        session = await self._set_session()
        # It may get a token, which blocks.
        told = await asyncio.to_thread(self._get_headers, {"Accept-Encoding": "identity", **(headers or {})})
        url = URL(self._format_path(path, names), encoded=True)
        async with session.request(
            method,
            url,
            params=self._get_params(rest),
            headers=told,
            allow_redirects=False,
            proxy=proxy_for(str(url.origin())),
            # A client's certificate is in a context that gcsfs has made.
            ssl=True if self._use_client_cert else self.authorities,
            **sent,
        ) as response:
            body = await response.read()
            if response.status >= 300:  # no redirect either: it would be followed with our token
                raise RefusedError(response.status, response.headers, body, told.get("authorization", ""))
            if told.get("authorization") != self._refused:
                self._refused = ""
            return response.status, response.headers, response.request_info, body


class GcsfsCarrier(Carrier):
    """Carry requests by gcsfs, on the running loop."""

    def __init__(self, bucket: str, options: GSOptions) -> None:
        """Make the carrier; no I/O. Raises InvalidOptionError."""
        self._name = bucket
        self._options = options
        self._endpoint = Endpoint.find(options, bucket)
        self._settings = ObjectSettings(
            storage_class=options.storage_class,
            predefined_acl=options.predefined_acl,
            kms_key=options.kms_key,
            key_headers=key_headers(options.encryption_key_env),
        )
        self._keys = self._settings.key_headers
        self._filesystem: OnceFileSystem | None = None
        self._closed = False
        self._opened = Renewal(self._open, what="filesystem for gs://", limit_secs=_OPEN_SECS)

    async def insert(
        self, name: str, body: Body, crc32c: int, match: str | None, purpose: Purpose
    ) -> ObjectInfo:
        """Upload in one request, streamed; see `Carrier.insert`."""
        filesystem = await self._ready(purpose)
        resource = {"name": name, "crc32c": encode(crc32c), **self._settings.resource()}
        content = related(resource, body, None)
        payload = BlocksPayload(
            content.blocks,
            content.size,
            content_type=content.kind,
            stall_secs=self._options.timeout_secs,
        )
        try:
            fields = await self._call(
                purpose,
                "POST",
                f"{filesystem._location}/upload/storage/v1/b/{{}}/o",
                self._name,
                data=payload,
                headers=self._keys,
                uploadType="multipart",
                fields=FIELDS,
                ifGenerationMatch=match,
                **self._settings.query(),
            )
        except StorageError:
            if payload.error is not None:
                raise payload.error from None
            raise
        finally:
            await payload.settled()
        return read_resource(name, fields)

    async def read(
        self, name: str, version: str, start: int, stop: int, purpose: Purpose
    ) -> AsyncGenerator[bytes, None]:
        """Download pieces, one request each; see `Carrier.read`."""
        filesystem = await self._ready(purpose)
        while start < stop:
            end = min(start + _READ_BYTES, stop)
            # Bytes as they are stored: https://cloud.google.com/storage/docs/transcoding#gzip-gzip
            headers = {"Accept-Encoding": "gzip", "Range": f"bytes={start}-{end - 1}", **self._keys}
            with self._translated(purpose):
                piece = await filesystem.send(
                    "GET",
                    "b/{}/o/{}",
                    self._name,
                    name,
                    headers=headers,
                    alt="media",
                    generation=version,
                    timeout=self._timeout(),
                )
            if len(piece) != end - start:
                raise TransientError(
                    f"{purpose}: expected {end - start} bytes, got {len(piece)}", key=purpose.key
                )
            yield piece
            start = end

    async def describe(self, name: str, purpose: Purpose) -> ObjectInfo:
        """Get the metadata; see `Carrier.describe`."""
        fields = await self._call(
            purpose, "GET", "b/{}/o/{}", self._name, name, headers=self._keys, fields=FIELDS
        )
        return read_resource(name, fields)

    async def page(self, prefix: str, token: str, purpose: Purpose, *, limit: int | None = None) -> Page:
        """List a page; see `Carrier.page`."""
        found = await self._call(
            purpose,
            "GET",
            "b/{}/o",
            self._name,
            prefix=prefix,
            pageToken=token or None,
            maxResults=limit,
            fields=f"items({FIELDS}),nextPageToken",
        )
        return Page(infos=read_page(found, purpose), token=str(found.get("nextPageToken", "")))

    async def delete(self, name: str, match: str | None, purpose: Purpose) -> None:
        """Delete; see `Carrier.delete`."""
        filesystem = await self._ready(purpose)
        with self._translated(purpose):
            await filesystem.send(
                "DELETE", "b/{}/o/{}", self._name, name, ifGenerationMatch=match, timeout=self._timeout()
            )

    async def compose(
        self, sources: Sequence[ObjectInfo], name: str, match: str | None, purpose: Purpose
    ) -> ObjectInfo:
        """Put objects together; see `Carrier.compose`."""
        settings = self._settings
        parts = [{"name": source.key, "generation": source.version} for source in sources]
        fields = await self._call(
            purpose,
            "POST",
            "b/{}/o/{}/compose",
            self._name,
            name,
            json={"sourceObjects": parts, "destination": settings.resource()},
            headers=self._keys,
            timeout=self._timeout(_ANSWER_SECS),
            fields=FIELDS,
            ifGenerationMatch=match,
            kmsKeyName=settings.kms_key,
            destinationPredefinedAcl=settings.predefined_acl,
        )
        return read_resource(name, fields)

    async def rewrite(
        self, source: ObjectInfo, name: str, token: str, match: str | None, purpose: Purpose
    ) -> Rewritten:
        """Send one request of a copy; see `Carrier.rewrite`."""
        fields = await self._call(
            purpose,
            "POST",
            "b/{}/o/{}/rewriteTo/b/{}/o/{}",
            self._name,
            source.key,
            self._name,
            name,
            json=self._settings.resource(),
            headers={**self._keys, **source_key_headers(self._keys)},
            timeout=self._timeout(_ANSWER_SECS),
            fields=f"done,rewriteToken,resource({FIELDS})",
            rewriteToken=token or None,
            ifSourceGenerationMatch=source.version,
            ifGenerationMatch=match,
            **self._settings.copy_query(),
        )
        resource = fields.get("resource")
        if fields.get("done") is True and isinstance(resource, dict):
            return Rewritten(info=read_resource(name, resource))
        return Rewritten(token=str(fields.get("rewriteToken", "")))

    async def aclose(self) -> None:
        """Close the connections; see `Carrier.aclose`."""
        self._closed = True
        await self._opened.aclose()
        filesystem, self._filesystem = self._filesystem, None
        if filesystem is not None and filesystem._session is not None:
            await filesystem._session.close()

    async def _ready(self, purpose: Purpose) -> OnceFileSystem:
        if self._closed:
            raise ClosedError(f"{purpose}: the backend is closed")
        if self._filesystem is None:
            try:
                self._filesystem = await self._opened()
            except google.auth.exceptions.GoogleAuthError as error:
                raise auth_error(error, self._options) from error
            except (OSError, ValueError) as error:
                raise AuthenticationError(f"gcsfs finds no credentials for gs:// ({error})") from error
        return self._filesystem

    def _open(self) -> OnceFileSystem:
        """Find credentials and make the filesystem; blocks.

        Where the URL asks for no credentials gcsfs looks for some in its own way: fsspec's
        configuration, the application's default, its cache, the machine's.
        """
        if self._filesystem is not None:
            return self._filesystem
        options = self._options
        arguments: dict[str, object] = {}
        if is_anonymous(options, emulated=self._endpoint.emulated):
            arguments["token"] = "anon"
        elif options.credentials or options.impersonate or options.project:
            arguments["token"] = load(options)
        if options.endpoint or options.universe_domain or self._endpoint.emulated:
            arguments["endpoint_url"] = self._endpoint.base
        authorities = read_authorities()
        filesystem = OnceFileSystem(
            access="read_write",
            asynchronous=True,
            requester_pays=options.billing_project or False,
            # What the environment says is read by us (`environment.py`): an entry in a netrc file would
            # take the place of the token.
            session_kwargs={"auto_decompress": False},
            use_listings_cache=False,
            **arguments,
        )
        filesystem.authorities = authorities
        return filesystem

    async def _call(
        self, purpose: Purpose, method: str, path: str, *names: str, **rest: Any
    ) -> dict[str, object]:
        """Send a request whose answer is a JSON object."""
        filesystem = await self._ready(purpose)
        rest.setdefault("timeout", self._timeout())
        with self._translated(purpose):
            body = await filesystem.send(method, path, *names, **rest)
        return read_object(body, purpose)

    def _may_renew(self, error: RefusedError) -> bool:
        return self._filesystem is not None and self._filesystem.drop_token(error.authorization)

    def _timeout(self, answer_secs: float = 0.0) -> aiohttp.ClientTimeout:
        """Limit each wait; the whole request has no limit, since a large body may take its time."""
        secs = self._options.timeout_secs
        return aiohttp.ClientTimeout(
            total=None, connect=secs, sock_connect=secs, sock_read=max(secs, answer_secs)
        )

    @contextmanager
    def _translated(self, purpose: Purpose) -> Iterator[None]:
        """Raise what gcsfs and its connections do as errors of ours."""
        with transport_errors(purpose, self._endpoint.base, self._options.timeout_secs):
            try:
                yield
            except RefusedError as error:
                if error.status == 401 and self._may_renew(error):
                    raise TransientError(
                        f"{purpose}: the token is refused before its time; another token is asked for",
                        key=purpose.key,
                    ) from error
                refusal = DIALECT.read(error.status, error.headers, error.body)
                raise DIALECT.translate(purpose, refusal) from error
            except (HttpError, NonRetryableError) as error:  # of gcsfs itself: there is no further token
                reason = error.__cause__
                raise auth_error(reason if isinstance(reason, Exception) else error, self._options) from error
            except google.auth.exceptions.GoogleAuthError as error:
                raise auth_error(error, self._options) from error
