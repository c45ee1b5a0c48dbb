"""Where a bucket is, and the URL of every request: pure, and percent-encoded once, here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

from yarl import URL

_AMAZON = ("amazonaws.com", "amazonaws.com.cn", "amazonaws.eu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Make the URLs of requests about one bucket; `base` is the URL that names are put after.

    A name is encoded as the signature demands: each byte but letters, digits, `-._~` and the slash
    (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, UriEncode).
    """

    base: str
    region: str

    @classmethod
    def of(cls, bucket: str, *, host: str, region: str, addressing: str | None) -> Self:
        """Put the bucket's name into the path or the host.

        `host` is a URL without the bucket; without `addressing` it decides: a host of Amazon's gets
        the name into the host, unless a dot in it would not fit the certificate
        (https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html).
        """
        if addressing is None:
            addressing = "virtual" if is_amazon(host) and "." not in bucket else "path"
        if addressing == "path":
            return cls(base=f"{host}/{_encoded(bucket)}", region=region)
        split = urlsplit(host)
        return cls(base=f"{split.scheme}://{bucket}.{split.netloc}{split.path}", region=region)

    def url(self, name: str | None, query: Mapping[str, str]) -> URL:
        """Return the URL of an object, or of the bucket."""
        path = "" if name is None else quote(name, safe="/")
        # `?uploads`, as documented, rather than `?uploads=`.
        pairs = "&".join(f"{key}={_encoded(value)}" if value else key for key, value in query.items())
        return URL(f"{self.base}/{path}?{pairs}" if pairs else f"{self.base}/{path}", encoded=True)


def amazon_host(region: str) -> str:
    """Return the URL of Amazon's endpoint in a region.

    https://docs.aws.amazon.com/general/latest/gr/s3.html; the partitions' domains:
    https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html
    """
    domain = {"cn": "amazonaws.com.cn", "eusc": "amazonaws.eu"}.get(region.partition("-")[0], "amazonaws.com")
    return f"https://s3.{region}.{domain}"


def is_amazon(host: str) -> bool:
    """Tell whether a URL leads to Amazon itself."""
    name = urlsplit(host).hostname or ""
    return any(name == domain or name.endswith(f".{domain}") for domain in _AMAZON)


def _encoded(text: str) -> str:
    return quote(text, safe="")
