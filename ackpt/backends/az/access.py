"""How requests are authorized: a key, a signature, a login's token or nothing; and how copies are.

https://learn.microsoft.com/rest/api/storageservices/authorize-requests-to-azure-storage
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from ackpt.backends.az.account import Account
from ackpt.backends.az.options import AzOptions
from ackpt.backends.az.shared_key import reading_sas, sign
from ackpt.backends.az.tokens import Tokens
from ackpt.backends.http.authorization import Anonymous, Authorization
from ackpt.backends.http.message import Request
from ackpt.backends.http.refusal import Refusal
from ackpt.errors import InvalidOptionError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAccess:
    """Hold what lets the store itself read a blob: a query of the blob's URL, or headers beside it."""

    sas: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Access(Authorization):
    """Authorize requests, and the store's own reading of what is to be copied."""

    @abstractmethod
    async def of_source(self, container: str, name: str) -> SourceAccess:
        """Return what lets the store read one blob of the account; raises as `headers`."""


class SharedKey(Access):
    """Sign requests with the account's key."""

    def __init__(self, account: str, key: bytes, *, now: Callable[[], datetime] | None = None) -> None:
        self._account = account
        self._key = key
        self._now = now or (lambda: datetime.now(UTC))

    async def headers(self, request: Request) -> Mapping[str, str]:
        """Return date and signature."""
        return sign(request, account=self._account, key=self._key, now=self._now())

    async def renew(self, refused: Mapping[str, str], refusal: Refusal) -> bool:
        """Tell that a key is what it is."""
        return False

    async def of_source(self, container: str, name: str) -> SourceAccess:
        """Sign a permission to read the one blob, for an hour."""
        sas = reading_sas(container, name, account=self._account, key=self._key, now=self._now())
        return SourceAccess(sas=sas)

    async def aclose(self) -> None:
        """Do nothing."""


class Signed(Anonymous, Access):
    """Send requests whose URL carries a shared access signature, or that need none."""

    def __init__(self, sas: str | None) -> None:
        self._sas = sas

    async def of_source(self, container: str, name: str) -> SourceAccess:
        """Use the same signature, if there is one."""
        return SourceAccess(sas=self._sas)

    def is_nobody(self) -> bool:
        """Tell whether there is no signature."""
        return self._sas is None


class Login(Access):
    """Send the token of whoever is logged in."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def headers(self, request: Request) -> Mapping[str, str]:
        """Return the token, renewed where it is about to expire."""
        return {"authorization": f"Bearer {await self._tokens.valid()}"}

    async def renew(self, refused: Mapping[str, str], refusal: Refusal) -> bool:
        """Get another token after a 401, unless another request has done so since `refused` was written."""
        if refusal.status != 401:
            return False
        return await self._tokens.renew(refused.get("authorization", "").removeprefix("Bearer "))

    async def of_source(self, container: str, name: str) -> SourceAccess:
        """Lend the token for the reading, too.

        https://learn.microsoft.com/rest/api/storageservices/put-block-from-url#request-headers
        """
        return SourceAccess(
            headers={"x-ms-copy-source-authorization": f"Bearer {await self._tokens.valid()}"}
        )

    async def aclose(self) -> None:
        """Give up a renewal under way."""
        await self._tokens.aclose()


def find_access(account: Account, options: AzOptions) -> Access:
    """Choose by what is known; no I/O.

    Raises:
        InvalidOptionError: a token, or a key to encrypt with, would travel unencrypted.
    """
    split = urlsplit(account.url)
    secret = account.key is None and account.sas is None and not options.anonymous
    if (secret or options.encryption_key_env) and split.scheme != "https" and split.hostname not in _LOOPBACK:
        raise InvalidOptionError(
            "option 'endpoint': expected https://, since whoever sees a login's token or an encryption key "
            "on its way can use it"
        )
    if account.key is not None:
        return SharedKey(account.name, account.key)
    if account.sas is not None or options.anonymous:
        return Signed(account.sas)
    hint = f"; the environment names the account {account.other!r}, and the URL {account.name!r}"
    return Login(Tokens(hint if account.other else ""))
