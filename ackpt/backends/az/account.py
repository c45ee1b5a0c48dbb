"""Which account a URL speaks to, where it is, and what the environment knows of its keys: pure but for that.

The variables are those of the Azure CLI:
https://learn.microsoft.com/azure/storage/blobs/authorize-data-operations-cli#set-environment-variables-for-authorization-parameters
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

from ackpt.backends.az.options import AzOptions, web_url
from ackpt.backends.az.options import account as account_name
from ackpt.errors import InvalidOptionError

CONNECTION_VARIABLE: Final = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNT_VARIABLE: Final = "AZURE_STORAGE_ACCOUNT"
KEY_VARIABLE: Final = "AZURE_STORAGE_KEY"
SAS_VARIABLE: Final = "AZURE_STORAGE_SAS_TOKEN"

# Published by Microsoft for the emulator, and so no secret:
# https://learn.microsoft.com/azure/storage/common/storage-connect-azurite#http-connection-strings
_EMULATOR: Final = {
    "AccountName": "devstoreaccount1",
    "AccountKey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "BlobEndpoint": "http://127.0.0.1:10000/devstoreaccount1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Hold what is known of a storage account before anything is asked.

    `url` is its Blob service's, without a slash at the end. At most one of `key` and `sas` is set;
    without both, and unless it is to be `anonymous`, a login has to be found. `other` is the account
    that the environment names instead, where it names one.
    """

    name: str
    url: str
    key: bytes | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)
    other: str | None = None

    @classmethod
    def find(cls, options: AzOptions, environment: Mapping[str, str], *, where: str) -> Self:
        """Put together what the URL's options and the environment say; `where` names the URL in errors.

        A key or a signature counts only for the account that it belongs to, as far as the
        environment tells: the connection string's own, or `AZURE_STORAGE_ACCOUNT`.

        Raises:
            InvalidOptionError: no account is named, or a variable cannot be understood; its value
                is not told.
        """
        known = _connection(environment.get(CONNECTION_VARIABLE) or "")
        named = environment.get(ACCOUNT_VARIABLE) or None
        if named is not None:
            named = _read(ACCOUNT_VARIABLE, account_name, named)
        name = options.account or named or known.get("AccountName") or _account_of(options.endpoint)
        if name is None:
            raise InvalidOptionError(
                f"no storage account for {where}; give the option 'account', or set {ACCOUNT_VARIABLE} or "
                f"{CONNECTION_VARIABLE}"
            )
        connected = known.get("AccountName", name) == name and bool(known)
        url = options.endpoint or (_blob_url(known, name) if connected else None)
        key, sas = _secrets(known if connected else {}, environment if named in (None, name) else {})
        if options.anonymous:
            key = sas = None
        other = next((each for each in (known.get("AccountName"), named) if each not in (None, name)), None)
        return cls(
            name=name, url=url or f"https://{name}.blob.core.windows.net", key=key, sas=sas, other=other
        )


def _secrets(known: Mapping[str, str], environment: Mapping[str, str]) -> tuple[bytes | None, str | None]:
    """Choose one key or signature, in the order of the Azure CLI: a connection string comes first."""
    for variable, key, sas in (
        (CONNECTION_VARIABLE, known.get("AccountKey"), known.get("SharedAccessSignature")),
        (KEY_VARIABLE, environment.get(KEY_VARIABLE), None),
        (SAS_VARIABLE, None, environment.get(SAS_VARIABLE)),
    ):
        if key:
            return _read_key(variable, key), None
        if sas:
            return None, _read_sas(variable, sas)
    return None, None


def _connection(text: str) -> Mapping[str, str]:
    """Take a connection string apart.

    https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string
    """
    fields: dict[str, str] = {}
    for setting in text.split(";"):
        name, equals, value = setting.strip().partition("=")
        if not name and not equals:
            continue
        if not name or not equals:
            raise InvalidOptionError(
                f"{CONNECTION_VARIABLE}: expected settings such as AccountName=name, with ';' between them"
            )
        fields[name] = value
    if fields.get("UseDevelopmentStorage") == "true":
        return _EMULATOR
    if fields and "AccountName" not in fields and "BlobEndpoint" not in fields:
        raise InvalidOptionError(f"{CONNECTION_VARIABLE}: expected an AccountName or a BlobEndpoint")
    if "AccountName" not in fields and "BlobEndpoint" in fields:
        account = _account_of(_read(CONNECTION_VARIABLE, web_url, fields["BlobEndpoint"]))
        if account is not None:
            fields["AccountName"] = account
    return fields


def _blob_url(known: Mapping[str, str], name: str) -> str | None:
    if "BlobEndpoint" in known:
        return _read(CONNECTION_VARIABLE, web_url, known["BlobEndpoint"])
    if "EndpointSuffix" in known:
        scheme = known.get("DefaultEndpointsProtocol", "https")
        return _read(CONNECTION_VARIABLE, web_url, f"{scheme}://{name}.blob.{known['EndpointSuffix']}")
    return None


def _account_of(endpoint: str | None) -> str | None:
    """Return the account that an endpoint's URL names: in its path, or first in its host."""
    if endpoint is None:
        return None
    split = urlsplit(endpoint)
    host, _, rest = (split.hostname or "").partition(".")
    found = split.path.strip("/") or (host if rest.startswith("blob.") or ".blob." in rest else "")
    try:
        return account_name(found)
    except ValueError:
        return None


def _read_key(variable: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidOptionError(f"{variable}: expected an account key, which is base64") from None


def _read_sas(variable: str, text: str) -> str:
    sas = text.strip().removeprefix("?")
    if not sas.isascii() or "sig=" not in sas or any(each in sas for each in " #\n"):
        raise InvalidOptionError(f"{variable}: expected a shared access signature such as sv=…&sig=…")
    return sas


def _read(variable: str, parse: Callable[[str], str], text: str) -> str:
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidOptionError(f"{variable}: expected {error}") from None
