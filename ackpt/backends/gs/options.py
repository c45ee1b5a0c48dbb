"""The options of a `gs://` URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ackpt.errors import InvalidOptionError
from ackpt.options import choice, duration, flag, option

_KMS_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")


def text(noun: str) -> Callable[[str], str]:
    """Make a reader that takes any text but an empty one; `noun` says what it should be."""

    def read(given: str) -> str:
        if not given:
            raise ValueError(noun)
        return given

    return read


def web_url(given: str) -> str:
    """Read `http://host[:port]` or `https://…`, without a path, a query, a user or a password."""
    try:
        split = urlsplit(given)
        port_fits = split.port is None or split.port > 0
    except ValueError:
        port_fits = False
    plain = port_fits and "@" not in split.netloc and split.path in ("", "/") and not split.query
    if not plain or split.scheme not in ("http", "https") or not split.hostname or split.fragment:
        raise ValueError("a URL such as https://storage.example.com or http://127.0.0.1:9000")
    return f"{split.scheme}://{split.netloc}"


def kms_key(given: str) -> str:
    """Read the full name of a Cloud KMS key.

    https://cloud.google.com/kms/docs/getting-resource-ids
    """
    if _KMS_KEY.fullmatch(given) is None:
        raise ValueError("a key's name such as projects/p/locations/l/keyRings/r/cryptoKeys/k")
    return given


def domain(given: str) -> str:
    """Read a domain name."""
    if _DOMAIN.fullmatch(given) is None:
        raise ValueError("a domain such as googleapis.com")
    return given


@dataclass(frozen=True, slots=True, kw_only=True)
class GSOptions:
    """Say how a bucket is reached, as whom, and how objects are written.

    `endpoint` is where the JSON and XML APIs are spoken; without it `STORAGE_EMULATOR_HOST`, and
    without that `storage.` before `universe_domain`.
    `anonymous` sends no credentials; unset, that is done for an emulator only, and only where
    neither `credentials` (a service account's key file) nor `impersonate` (a service account's
    e-mail address) ask for some.
    `project` is the project whose quota the calls count against, `billing_project` the one that
    pays where the requester pays.
    `storage_class`, `predefined_acl`, `kms_key` are for the objects written; `encryption_key_env`
    names an environment variable with a customer-supplied key (base64 of 32 bytes).
    `timeout_secs` is how long the store may keep us waiting for a connection, for a byte of an
    answer, and for taking a byte of a body.
    `upload` forces how large objects go; unset, in parts, and over resumable uploads where the
    endpoint has no multipart uploads.
    `driver` is the library that carries the requests; unset, our own. It refuses the options that it
    cannot honour.
    """

    endpoint: str | None = option("endpoint", web_url, None, private=True)
    universe_domain: str | None = option("universe_domain", domain, None)
    anonymous: bool | None = option("anonymous", flag, None)
    credentials: str | None = option("credentials", text("the path of a key file"), None)
    impersonate: str | None = option("impersonate", text("a service account's e-mail address"), None)
    project: str | None = option("project", text("a project's id"), None)
    billing_project: str | None = option("billing_project", text("a project's id"), None)
    # https://cloud.google.com/storage/docs/storage-classes
    storage_class: str | None = option(
        "storage_class", choice("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"), None
    )
    # https://cloud.google.com/storage/docs/access-control/lists#predefined-acl (the JSON API's names)
    predefined_acl: str | None = option(
        "predefined_acl",
        choice(
            "authenticatedRead",
            "bucketOwnerFullControl",
            "bucketOwnerRead",
            "private",
            "projectPrivate",
            "publicRead",
        ),
        None,
    )
    kms_key: str | None = option("kms_key", kms_key, None)
    encryption_key_env: str | None = option(
        "encryption_key_env", text("the name of an environment variable"), None
    )
    timeout_secs: float = option("timeout", duration, 60.0)
    upload: str | None = option("upload", choice("multipart", "resumable"), None)
    driver: str | None = option("driver", choice("gcsfs", "google-cloud-storage"), None)

    def __post_init__(self) -> None:
        """Check what the options say together.

        Raises:
            InvalidOptionError: two that exclude each other, or a timeout of nothing.
        """
        if self.anonymous and (self.credentials or self.impersonate):
            raise InvalidOptionError("options 'anonymous' and 'credentials' or 'impersonate': give one kind")
        if self.kms_key and self.encryption_key_env:
            raise InvalidOptionError("options 'kms_key' and 'encryption_key_env': give one of them")
        if self.timeout_secs <= 0:
            raise InvalidOptionError(f"option 'timeout': expected more than 0 s, got {self.timeout_secs}")
