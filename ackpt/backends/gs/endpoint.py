"""Where the APIs are, and the URL of every request: pure, and percent-encoded once, here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from yarl import URL

from ackpt.backends.gs.options import GSOptions, web_url
from ackpt.errors import InvalidOptionError

EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"
"""What google-cloud-storage reads, too (googleapis/python-storage: google/cloud/storage/_helpers.py)."""

_DEFAULT_DOMAIN = "googleapis.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Make the URLs of requests about one bucket.

    Names in paths and queries are percent-encoded whole, slashes included: a `//`, a `.` or a `..`
    in a name is then nothing that a client, a proxy or a server may tidy up
    (https://cloud.google.com/storage/docs/request-endpoints#encoding).
    """

    base: str
    bucket: str
    emulated: bool = False
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, options: GSOptions, bucket: str) -> Endpoint:
        """Choose: the option, then the emulator's variable, then the universe domain.

        Raises:
            InvalidOptionError: the variable holds no URL.
        """
        # https://cloud.google.com/storage/docs/requester-pays#using
        query = {"userProject": options.billing_project} if options.billing_project else {}
        if options.endpoint is not None:
            return cls(base=options.endpoint, bucket=bucket, query=query)
        emulator = os.environ.get(EMULATOR_VARIABLE)
        if emulator:
            try:
                base = web_url(emulator if "://" in emulator else f"http://{emulator}")
            except ValueError as error:
                raise InvalidOptionError(f"{EMULATOR_VARIABLE}: expected {error}, got {emulator!r}") from None
            return cls(base=base, bucket=bucket, emulated=True, query=query)
        return cls(base=f"https://storage.{universe(options)}", bucket=bucket, query=query)

    def object(self, name: str, **query: str) -> URL:
        """Return the URL of an object's resource in the JSON API."""
        return self._json(f"/storage/v1/b/{_encoded(self.bucket)}/o/{_encoded(name)}", query)

    def move(self, name: str, to: str, **query: str) -> URL:
        """Return the URL that moves an object: https://cloud.google.com/storage/docs/json_api/v1/objects/move."""
        path = f"/storage/v1/b/{_encoded(self.bucket)}/o/{_encoded(name)}/moveTo/o/{_encoded(to)}"
        return self._json(path, query)

    def rewrite(self, name: str, to: str, **query: str) -> URL:
        """Return the URL that copies: https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite."""
        bucket = _encoded(self.bucket)
        path = f"/storage/v1/b/{bucket}/o/{_encoded(name)}/rewriteTo/b/{bucket}/o/{_encoded(to)}"
        return self._json(path, query)

    def objects(self, **query: str) -> URL:
        """Return the URL that lists objects."""
        return self._json(f"/storage/v1/b/{_encoded(self.bucket)}/o", query)

    def upload(self, **query: str) -> URL:
        """Return the URL that inserts objects."""
        return self._json(f"/upload/storage/v1/b/{_encoded(self.bucket)}/o", query)

    def batch(self) -> URL:
        """Return the URL that takes several requests in one: https://cloud.google.com/storage/docs/batch."""
        return _url(f"{self.base}/batch/storage/v1", {})

    def xml(self, name: str | None = None, **query: str) -> URL:
        """Return the URL of an object, or of the bucket, in the XML API; path-style.

        https://cloud.google.com/storage/docs/request-endpoints#xml-api
        """
        path = f"/{_encoded(self.bucket)}" + (f"/{_encoded(name)}" if name is not None else "")
        return _url(f"{self.base}{path}", query)

    def owns(self, url: URL) -> bool:
        """Tell whether `url` leads to this endpoint, so that it may be given our token."""
        return url.origin() == URL(self.base).origin()

    def _json(self, path: str, query: Mapping[str, str]) -> URL:
        return _url(f"{self.base}{path}", {**query, **self.query})


def universe(options: GSOptions) -> str:
    """Return the universe domain: the option, then the variable of Google's libraries, then the default.

    As google-cloud-storage chooses (googleapis/python-storage: google/cloud/storage/client.py).
    """
    return options.universe_domain or os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN") or _DEFAULT_DOMAIN


def _encoded(name: str) -> str:
    return quote(name, safe="")


def _url(base: str, query: Mapping[str, str]) -> URL:
    # `?uploads`, as documented, rather than `?uploads=`.
    pairs = "&".join(f"{name}={_encoded(value)}" if value else name for name, value in query.items())
    return URL(f"{base}?{pairs}" if pairs else base, encoded=True)
