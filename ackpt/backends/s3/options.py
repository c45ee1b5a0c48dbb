"""The options of an `s3://` URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ackpt.errors import InvalidOptionError
from ackpt.options import choice, duration, flag, option


def text(noun: str) -> Callable[[str], str]:
    """Make a reader that takes any text but an empty one; `noun` says what it should be."""

    def read(given: str) -> str:
        if not given:
            raise ValueError(noun)
        return given

    return read


def web_url(given: str) -> str:
    """Read `http://host[:port][/path]` or `https://…`, without a query, a user or a password."""
    try:
        split = urlsplit(given)
        port_fits = split.port is None or split.port > 0
    except ValueError:
        port_fits = False
    plain = port_fits and "@" not in split.netloc and not split.query and not split.fragment
    if not plain or split.scheme not in ("http", "https") or not split.hostname:
        raise ValueError("a URL such as https://s3.example.com or http://127.0.0.1:9000")
    return f"{split.scheme}://{split.netloc}{split.path.rstrip('/')}"


def region(given: str) -> str:
    """Read a region's name, which becomes part of a host's."""
    if not given.isascii() or not given.replace("-", "").replace("_", "").isalnum():
        raise ValueError("a region such as eu-central-1")
    return given


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """Say how a bucket is reached, as whom, and how objects are written.

    `endpoint` is where the API is spoken; without it `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or
    the profile's `endpoint_url`, and without those Amazon's own.
    `region` is the bucket's; without it Amazon is asked, and another store gets the configured
    one (`AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's) or `us-east-1`.
    `addressing` puts the bucket's name into the path or the host (`virtual`); unset, into the host
    for Amazon, unless the name has a dot, and into the path for any other endpoint.
    `anonymous` sends no credentials, `profile` names one of the AWS configuration files; without
    both credentials are found as the AWS CLI finds them.
    `sse` is the server-side encryption of objects written, `kms_key` the key for it (and means
    `sse=aws:kms`); `encryption_key_env` names an environment variable with a key of your own
    (SSE-C: base64 of 32 bytes).
    `storage_class` is for the objects written.
    `requester_pays` says that whoever asks pays.
    `conditional_writes` is to be `false` for a store that has none (no `If-None-Match`): one
    writer at a time is then up to you.
    `timeout_secs` is how long the store may keep us waiting for a connection, for a byte of an
    answer, and for taking a byte of a body.
    """

    endpoint: str | None = option("endpoint", web_url, None, private=True)
    region: str | None = option("region", region, None)
    addressing: str | None = option("addressing", choice("path", "virtual"), None)
    anonymous: bool = option("anonymous", flag, False)
    profile: str | None = option("profile", text("a profile's name"), None)
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/serv-side-encryption.html
    sse: str | None = option("sse", choice("AES256", "aws:kms", "aws:kms:dsse"), None)
    kms_key: str | None = option("kms_key", text("a KMS key's id, alias or ARN"), None)
    encryption_key_env: str | None = option(
        "encryption_key_env", text("the name of an environment variable"), None
    )
    # Any text: stores that speak the API have classes of their own.
    storage_class: str | None = option("storage_class", text("a class such as STANDARD_IA"), None)
    requester_pays: bool = option("requester_pays", flag, False)
    conditional_writes: bool = option("conditional_writes", flag, True)
    timeout_secs: float = option("timeout", duration, 60.0)

    def __post_init__(self) -> None:
        """Check what the options say together.

        Raises:
            InvalidOptionError: two that exclude each other, or a timeout of nothing.
        """
        if self.anonymous and self.profile:
            raise InvalidOptionError("options 'anonymous' and 'profile': give one of them")
        if self.encryption_key_env and (self.sse or self.kms_key):
            raise InvalidOptionError("options 'encryption_key_env' and 'sse' or 'kms_key': give one kind")
        if self.kms_key and self.sse == "AES256":
            raise InvalidOptionError("options 'kms_key' and 'sse=AES256': a KMS key needs sse=aws:kms")
        if self.timeout_secs <= 0:
            raise InvalidOptionError(f"option 'timeout': expected more than 0 s, got {self.timeout_secs}")
