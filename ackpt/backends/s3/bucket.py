"""One bucket: where it is, found out once, and requests to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from ackpt.backends.http.authorization import Anonymous
from ackpt.backends.http.environment import CA_VARIABLES
from ackpt.backends.http.message import Content, Reply, Request
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.renewal import Renewal
from ackpt.backends.http.session import Session
from ackpt.backends.s3.checksums import Abilities
from ackpt.backends.s3.credentials import Chain, Configured, configured
from ackpt.backends.s3.endpoint import Endpoint, amazon_host, is_amazon
from ackpt.backends.s3.errors import DIALECT, bucket_not_found
from ackpt.backends.s3.options import S3Options
from ackpt.backends.s3.settings import ObjectSettings
from ackpt.backends.s3.signature import Signatures

_log = logging.getLogger(__name__)

_DEFAULT_REGION: Final = "us-east-1"
_CONFIGURE_SECS: Final = 30.0
_OK: Final = frozenset({200})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Hold one request, about the bucket or about an object in it.

    `name` is an object's whole name. `timeout_secs`, where given, is the time until the answer
    begins.
    """

    purpose: Purpose
    method: str
    name: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: Content | None = None
    ok: frozenset[int] = _OK
    timeout_secs: float | None = None


class Bucket:
    """Send requests about one bucket, or objects in it whose names begin with `base`.

    Keys are names without `base`; errors tell keys.
    """

    def __init__(self, name: str, base: str, options: S3Options) -> None:
        """Make it without any I/O; raises InvalidOptionError."""
        self.name = name
        self.base = base
        self.settings = ObjectSettings.of(options)
        self.abilities = Abilities(f"s3://{name}" if options.endpoint is None else options.endpoint)
        self._options = options
        self._endpoint: Endpoint | None = None
        self._finding = asyncio.Lock()
        self._configured = Renewal(
            lambda: configured(options.profile), what="AWS configuration", limit_secs=_CONFIGURE_SECS
        )
        self._session = Session(
            Anonymous() if options.anonymous else Signatures(Chain(options.profile), self._signed_region),
            DIALECT,
            timeout_secs=options.timeout_secs,
            # https://docs.aws.amazon.com/sdkref/latest/guide/feature-gen-config.html (ca_bundle)
            ca_variables=("AWS_CA_BUNDLE", *CA_VARIABLES),
        )

    def purpose(self, action: str, key: str | None = None, subject: Subject = Subject.OBJECT) -> Purpose:
        """Name a request, in the words of an error."""
        return Purpose(action=action, bucket=self.name, key=key, subject=subject)

    async def send(self, ask: Ask) -> Reply:
        """Send a request and read the whole answer; raises as `Session.send`."""
        return await self._session.send(await self._request(ask))

    async def stream(self, ask: Ask, *, empty: int) -> AsyncGenerator[bytes, None]:
        """Send a request and iterate over the answer's body; see `Session.stream`."""
        request = await self._request(ask)
        async with aclosing(self._session.stream(request, empty=empty)) as blocks:
            async for block in blocks:
                yield block

    async def is_amazon(self) -> bool:
        """Tell whether the bucket is at Amazon itself."""
        return is_amazon((await self._place()).base)

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        await self._configured.aclose()
        await self._session.aclose()

    async def _request(self, ask: Ask) -> Request:
        return Request(
            method=ask.method,
            url=(await self._place()).url(ask.name, ask.query),
            purpose=ask.purpose,
            ok=ask.ok,
            headers={**self.settings.always, **ask.headers},
            content=ask.content,
            timeout_secs=ask.timeout_secs,
        )

    def _signed_region(self) -> str:
        assert self._endpoint is not None, "a request's URL is made before it is signed"
        return self._endpoint.region

    async def _place(self) -> Endpoint:
        """Return where the bucket is; found at the first request."""
        if self._endpoint is not None:
            return self._endpoint
        async with self._finding:
            if self._endpoint is None:
                self._endpoint = await self._find()
            return self._endpoint

    async def _find(self) -> Endpoint:
        """Choose endpoint and region: the options, then the environment and the profile, then ask."""
        options = self._options
        known = Configured(region=None, endpoint=None)
        if options.endpoint is None or options.region is None:
            known = await self._configured()
        host = options.endpoint or known.endpoint
        region = options.region or known.region or _DEFAULT_REGION
        if options.region is None and (host is None or is_amazon(host)):
            region = await self._ask_region(host or amazon_host(region), region)
        return Endpoint.of(
            self.name, host=host or amazon_host(region), region=region, addressing=options.addressing
        )

    async def _ask_region(self, host: str, guess: str) -> str:
        """Ask Amazon, as nobody, which region the bucket is in.

        "You can make a HeadBucket call on any bucket name to any Region in the partition, and
        regardless of the permissions on the bucket, you will receive a response header with the
        correct bucket location" (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html).

        Raises:
            BucketNotFoundError: there is no such bucket.
        """
        endpoint = Endpoint.of(self.name, host=host, region=guess, addressing="path")
        reply = await self._session.send(
            Request(
                method="HEAD",
                url=endpoint.url(None, {}),
                purpose=self.purpose("look for", subject=Subject.BUCKET),
                ok=frozenset({200, 301, 307, 400, 403, 404}),
                authorize=False,
            )
        )
        found = reply.headers.get("x-amz-bucket-region")
        if found is None and reply.status == 404:
            raise bucket_not_found(self.name)
        if found is not None and found != guess:
            _log.info("bucket %s is in the region %s, not in %s", self.name, found, guess)
        return found or guess
