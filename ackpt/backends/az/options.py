"""The options of an `az://` URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ackpt.errors import InvalidOptionError
from ackpt.options import choice, duration, flag, option

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")


def text(noun: str) -> Callable[[str], str]:
    """Make a reader that takes any text but an empty one; `noun` says what it should be."""

    def read(given: str) -> str:
        if not given:
            raise ValueError(noun)
        return given

    return read


def account(given: str) -> str:
    """Read a storage account's name, which becomes part of a host's.

    https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftstorage
    """
    if _ACCOUNT.fullmatch(given) is None:
        raise ValueError("an account's name: 3 to 24 lower-case letters and digits")
    return given


def web_url(given: str) -> str:
    """Read `http://host[:port][/account]` or `https://…`, without a query, a user or a password."""
    try:
        split = urlsplit(given)
        port_fits = split.port is None or split.port > 0
    except ValueError:
        port_fits = False
    plain = port_fits and "@" not in split.netloc and not split.query and not split.fragment
    if not plain or split.scheme not in ("http", "https") or not split.hostname:
        raise ValueError(
            "a URL such as https://account.blob.core.windows.net or http://127.0.0.1:10000/devstoreaccount1"
        )
    return f"{split.scheme}://{split.netloc}{split.path.rstrip('/')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AzOptions:
    """Say how a container is reached, as whom, and how blobs are written.

    `account` is the storage account's name; without it `AZURE_STORAGE_ACCOUNT`, or the account of
    the connection string in `AZURE_STORAGE_CONNECTION_STRING`.
    `endpoint` is where the account's Blob service is, for another cloud, a private link or an
    emulator; without it the connection string's, and without that `https://ACCOUNT.blob.core.windows.net`.
    `anonymous` sends no credentials; without it the environment is asked for a connection string,
    an account key (`AZURE_STORAGE_KEY`) or a shared access signature (`AZURE_STORAGE_SAS_TOKEN`),
    and without these the login is found as Azure's own tools find it (`DefaultAzureCredential`).
    `tier` is the access tier of blobs written; without it the account's default.
    `encryption_scope` is for the blobs written; `encryption_key_env` names an environment variable
    with a key of your own (base64 of 32 bytes), which the store uses and does not keep.
    `timeout_secs` is how long the store may keep us waiting for a connection, for a byte of an
    answer, and for taking a byte of a body.
    """

    account: str | None = option("account", account, None)
    endpoint: str | None = option("endpoint", web_url, None, private=True)
    anonymous: bool = option("anonymous", flag, False)
    # https://learn.microsoft.com/azure/storage/blobs/access-tiers-overview
    # Not Archive: what is there cannot be read before hours have passed.
    tier: str | None = option("tier", choice("Hot", "Cool", "Cold"), None)
    encryption_scope: str | None = option("encryption_scope", text("an encryption scope's name"), None)
    encryption_key_env: str | None = option(
        "encryption_key_env", text("the name of an environment variable"), None
    )
    timeout_secs: float = option("timeout", duration, 60.0)

    def __post_init__(self) -> None:
        """Check what the options say together.

        Raises:
            InvalidOptionError: two that exclude each other, or a timeout of nothing.
        """
        if self.encryption_scope and self.encryption_key_env:
            raise InvalidOptionError("options 'encryption_scope' and 'encryption_key_env': give one of them")
        if self.timeout_secs <= 0:
            raise InvalidOptionError(f"option 'timeout': expected more than 0 s, got {self.timeout_secs}")
