"""`?driver=google-cloud-storage`: Google's own client library, whose calls block.

https://cloud.google.com/python/docs/reference/storage/latest. It retries nothing here: `retry=None`
in every call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import google.auth.credentials
import google.auth.transport.requests
import google.cloud.storage as storage
import requests
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from ackpt.backends.base import Body, ObjectInfo
from ackpt.backends.gs.carried.authorities import read_authorities
from ackpt.backends.gs.carried.carrier import Carrier, Page, Rewritten
from ackpt.backends.gs.carried.workers import WORKERS, BodyFile, BrokenOffError, Workers
from ackpt.backends.gs.credentials import auth_error, is_anonymous, load
from ackpt.backends.gs.endpoint import Endpoint, universe
from ackpt.backends.gs.errors import DIALECT
from ackpt.backends.gs.objects import FIELDS
from ackpt.backends.gs.options import GSOptions
from ackpt.backends.http.crc32c import decode, encode
from ackpt.backends.http.purpose import Purpose
from ackpt.backends.http.renewal import Renewal
from ackpt.backends.http.transport_errors import without_url
from ackpt.errors import (
    ChecksumMismatchError,
    ClosedError,
    InvalidOptionError,
    StorageError,
    TransientError,
)
from ackpt.options import MiB

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket, Client

T = TypeVar("T")

_CHUNK_BYTES: Final = 8 * MiB
"""What the library sends in a request, and holds in memory, of a body that is larger; it sends a body
of up to 8 MiB in one request, whatever this is.
"""
_READ_BYTES: Final = 8 * MiB
_OPEN_SECS: Final = 180.0
_CONNECT_SECS: Final = 20.0
_COPY_SECS: Final = 120.0
"""See `copies.py`; a composition may take its time as well."""

_KIND: Final = "application/octet-stream"
_REFUSED: Final = {
    "kms_key": "cannot name the key of an object that is put together of parts; set the bucket's default key",
    "encryption_key_env": "cannot send the key of objects that are put together",
    "predefined_acl": "cannot set the access of an object that is put together of parts",
}
"""Options that are lost in `Blob.compose`, which sends neither parameters nor headers of ours."""


class CloudStorageCarrier(Carrier):
    """Carry requests by `google.cloud.storage`, on threads of its own."""

    def __init__(self, bucket: str, options: GSOptions) -> None:
        """Make the carrier; no I/O.

        Raises:
            InvalidOptionError: an option that this library cannot honour.
        """
        given = {
            "kms_key": options.kms_key,
            "encryption_key_env": options.encryption_key_env,
            "predefined_acl": options.predefined_acl,
        }
        for name, reason in _REFUSED.items():
            if given[name] is not None:
                raise InvalidOptionError(
                    f"option {name!r}: driver=google-cloud-storage {reason}, or leave the driver away"
                )
        self._name = bucket
        self._options = options
        self._endpoint = Endpoint.find(options, bucket)
        self._workers = Workers()
        self._client: Client | None = None
        self._closed = False
        self._opened = Renewal(self._open, what="client for gs://", limit_secs=_OPEN_SECS)

    async def insert(
        self, name: str, body: Body, crc32c: int, match: str | None, purpose: Purpose
    ) -> ObjectInfo:
        """Upload in one request, or over a session in chunks; see `Carrier.insert`."""
        blob = (await self._bucket(purpose)).blob(name, chunk_size=_CHUNK_BYTES)
        blob.crc32c = encode(crc32c)
        if self._options.storage_class is not None:
            blob.storage_class = self._options.storage_class

        def upload(file: BodyFile) -> ObjectInfo:
            blob.upload_from_file(
                file,
                size=body.size,
                content_type=_KIND,
                checksum=None,  # it is in the metadata already, of the bytes as they were staged
                if_generation_match=_number(match),
                timeout=self._timeout(),
                retry=None,
            )
            return _info(blob)

        with self._translated(purpose):
            return await self._workers.send(body, lambda file: _understood(purpose, partial(upload, file)))

    async def read(
        self, name: str, version: str, start: int, stop: int, purpose: Purpose
    ) -> AsyncGenerator[bytes, None]:
        """Download pieces, one request each; see `Carrier.read`."""
        blob = (await self._bucket(purpose)).blob(name, generation=int(version))
        while start < stop:
            end = min(start + _READ_BYTES, stop)
            piece: bytes = await self._call(
                purpose,
                partial(
                    blob.download_as_bytes,
                    start=start,
                    end=end - 1,
                    raw_download=True,
                    checksum=None,
                    timeout=self._timeout(),
                    retry=None,
                ),
            )
            if len(piece) != end - start:
                raise TransientError(
                    f"{purpose}: expected {end - start} bytes, got {len(piece)}", key=purpose.key
                )
            yield piece
            start = end

    async def describe(self, name: str, purpose: Purpose) -> ObjectInfo:
        """Get the metadata; see `Carrier.describe`."""
        blob = (await self._bucket(purpose)).blob(name)
        await self._call(purpose, partial(blob.reload, timeout=self._timeout(), retry=None))
        return _info(blob)

    async def page(self, prefix: str, token: str, purpose: Purpose, *, limit: int | None = None) -> Page:
        """List a page; see `Carrier.page`."""
        bucket = await self._bucket(purpose)

        def fetch() -> Page:
            blobs = bucket.client.list_blobs(
                bucket,
                prefix=prefix,
                page_token=token or None,
                page_size=limit,
                fields=f"items({FIELDS}),nextPageToken",
                timeout=self._timeout(),
                retry=None,
            )
            infos = tuple(_info(blob) for blob in next(blobs.pages, ()))
            return Page(infos=infos, token=blobs.next_page_token or "")

        return await self._call(purpose, fetch)

    async def delete(self, name: str, match: str | None, purpose: Purpose) -> None:
        """Delete; see `Carrier.delete`."""
        blob = (await self._bucket(purpose)).blob(name)
        timeout = self._timeout()
        await self._call(
            purpose, partial(blob.delete, if_generation_match=_number(match), timeout=timeout, retry=None)
        )

    async def compose(
        self, sources: Sequence[ObjectInfo], name: str, match: str | None, purpose: Purpose
    ) -> ObjectInfo:
        """Put objects together; see `Carrier.compose`."""
        bucket = await self._bucket(purpose)
        blob = bucket.blob(name)
        blob.content_type = _KIND
        if self._options.storage_class is not None:
            blob.storage_class = self._options.storage_class
        parts = [bucket.blob(source.key, generation=int(source.version)) for source in sources]
        await self._call(
            purpose,
            partial(
                blob.compose,
                parts,
                if_generation_match=_number(match),
                timeout=self._timeout(_COPY_SECS),
                retry=None,
            ),
        )
        return _info(blob)

    async def rewrite(
        self, source: ObjectInfo, name: str, token: str, match: str | None, purpose: Purpose
    ) -> Rewritten:
        """Send one request of a copy; see `Carrier.rewrite`."""
        bucket = await self._bucket(purpose)
        blob = bucket.blob(name)
        blob.content_type = _KIND
        if self._options.storage_class is not None:
            blob.storage_class = self._options.storage_class
        more, _, _ = await self._call(
            purpose,
            partial(
                blob.rewrite,
                bucket.blob(source.key),
                token=token or None,
                if_generation_match=_number(match),
                if_source_generation_match=int(source.version),
                timeout=self._timeout(_COPY_SECS),
                retry=None,
            ),
        )
        return Rewritten(info=_info(blob)) if more is None else Rewritten(token=more)

    async def aclose(self) -> None:
        """Close the connections; see `Carrier.aclose`."""
        self._closed = True
        await self._opened.aclose()
        self._workers.close()
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _bucket(self, purpose: Purpose) -> Bucket:
        if self._closed:
            raise ClosedError(f"{purpose}: the backend is closed")
        if self._client is None:
            with self._translated(purpose):
                self._client = await self._opened()
        return self._client.bucket(self._name, user_project=self._options.billing_project)

    def _open(self) -> Client:
        """Find the credentials and make the client; blocks."""
        if self._client is not None:
            return self._client
        read_authorities()  # the library would find out at every request, and call it a lost connection
        options = self._options
        credentials: google.auth.credentials.Credentials
        if is_anonymous(options, emulated=self._endpoint.emulated):
            credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        else:
            credentials = load(options)
            # Once, here: the library would get one for each of the requests that begin together.
            credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
        client = storage.Client(
            project=options.project, credentials=credentials, client_options=self._client_options()
        )
        # One connection for each worker: more than that are opened and thrown away.
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=WORKERS, max_retries=0)
        for scheme in ("http://", "https://"):
            client._http.mount(scheme, adapter)
        # An entry in a netrc file would take the place of the token, unless there is something here.
        client._http.auth = _as_it_is
        return client

    def _client_options(self) -> Mapping[str, str]:
        """Say where the API is, unless the library knows better: it may choose an endpoint for mTLS."""
        if self._options.endpoint is None and not self._endpoint.emulated:
            return {"universe_domain": universe(self._options)}
        return {"api_endpoint": self._endpoint.base, "universe_domain": universe(self._options)}

    async def _call(self, purpose: Purpose, call: Callable[[], T]) -> T:
        with self._translated(purpose):
            return await self._workers.run(partial(_understood, purpose, call))

    def _timeout(self, answer_secs: float = 0.0) -> tuple[float, float]:
        """Return the time for a connection, and for a byte of an answer."""
        return self._options.timeout_secs, max(self._options.timeout_secs, answer_secs)

    @contextmanager
    def _translated(self, purpose: Purpose) -> Iterator[None]:
        """Raise what the library does as errors of ours; an URL, which may be a credential, is not told."""
        try:
            yield
        except GoogleAPICallError as error:
            raise _refused(purpose, error.response, error) from without_url(error)
        except InvalidResponse as error:
            raise _refused(purpose, error.response, error) from without_url(error)
        except DataCorruption as error:
            raise ChecksumMismatchError(
                f"{purpose}: the bytes arrived damaged ({error})", key=purpose.key
            ) from error
        except GoogleAuthError as error:
            raise auth_error(error, self._options) from error
        except BrokenOffError as error:
            raise TransientError(f"{purpose}: {error}", key=purpose.key) from error
        except requests.exceptions.SSLError as error:
            raise StorageError(
                f"{purpose}: the certificate of {self._endpoint.base} is not trusted; name your own "
                "authority's in REQUESTS_CA_BUNDLE",
                key=purpose.key,
            ) from without_url(error)
        except (requests.RequestException, HTTPError, OSError) as error:
            raise TransientError(
                f"{purpose}: the connection to {self._endpoint.base} failed ({type(error).__name__})",
                key=purpose.key,
            ) from without_url(error)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _understood(purpose: Purpose, call: Callable[[], T]) -> T:
    """Call the library; what it stumbles over in an answer is an error of the store's.

    Raises:
        StorageError: the answer is malformed.
    """
    try:
        return call()
    except (GoogleAuthError, requests.RequestException) as error:  # some are ValueErrors, too
        if isinstance(error, requests.JSONDecodeError):
            raise _malformed(purpose, error) from error
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _malformed(purpose, error) from error


def _malformed(purpose: Purpose, error: Exception) -> StorageError:
    return StorageError(
        f"{purpose}: the store's answer is malformed ({type(error).__name__}); does the endpoint speak the "
        "Cloud Storage JSON API?",
        key=purpose.key,
    )


def _refused(purpose: Purpose, response: requests.Response | None, error: Exception) -> StorageError:
    """Read the answer as the backend of our own does."""
    if response is None:
        return StorageError(f"{purpose}: {type(error).__name__}", key=purpose.key)
    refusal = DIALECT.read(response.status_code, response.headers, response.content)
    return DIALECT.translate(purpose, refusal)


def _number(match: str | None) -> int | None:
    return None if match is None else int(match)


def _info(blob: Blob) -> ObjectInfo:
    """Describe an object; raises StorageError where the store's description lacks what every object has."""
    try:
        return ObjectInfo(
            key=blob.name,
            size=int(blob.size),
            version=str(int(blob.generation)),
            crc32c=decode(blob.crc32c) if blob.crc32c else None,
            modified=blob.updated,
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise StorageError(
            f"{blob.name}: the store's description of it is malformed ({type(error).__name__})", key=blob.name
        ) from error
