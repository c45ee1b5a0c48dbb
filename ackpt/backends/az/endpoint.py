"""The URL of every request about one container: pure, and percent-encoded once, here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from yarl import URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Make URLs; `service` is the account's Blob service, `sas` a query that authorizes, if any.

    A name is encoded but for its slashes, so that they stay what separates its segments
    (https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata).
    """

    service: str
    container: str
    sas: str | None = field(default=None, repr=False)

    def url(self, name: str | None, query: Mapping[str, str]) -> URL:
        """Return the URL of a blob, or of the container."""
        return self._url(name, [f"{key}={quote(value, safe='')}" for key, value in query.items()], self.sas)

    def source(self, name: str, sas: str | None) -> str:
        """Return the URL of a blob that the store is to read itself, with a query that lets it."""
        return str(self._url(name, [], sas))

    def _url(self, name: str | None, pairs: list[str], sas: str | None) -> URL:
        path = quote(self.container, safe="$")
        if name is not None:
            path += "/" + quote(name, safe="/")
        query = "&".join([*pairs, sas] if sas else pairs)
        base = f"{self.service}/{path}"
        return URL(f"{base}?{query}" if query else base, encoded=True)
