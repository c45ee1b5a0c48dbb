"""Tokens of a login: found as azure-identity finds them, renewed before they expire.

https://learn.microsoft.com/python/api/overview/azure/identity-readme#defaultazurecredential
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from azure.core.credentials import AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.identity import CredentialUnavailableError, DefaultAzureCredential

from ackpt.backends.http.renewal import Renewal
from ackpt.errors import AuthenticationError, StorageError, TransientError

_log = logging.getLogger(__name__)

SCOPE: Final = "https://storage.azure.com/.default"
"""https://learn.microsoft.com/azure/storage/blobs/authorize-access-azure-active-directory#microsoft-authentication-library-msal"""

_RENEW_SECS: Final = 180.0
_AHEAD_SECS: Final = 300.0
_PAUSE_SECS: Final = 30.0
_REASON_CHARS: Final = 300


class Tokens:
    """Give out the current token; used on one event loop."""

    def __init__(self, hint: str = "") -> None:
        """Make it without any I/O; `hint` ends the error of a login that is not there."""
        self._hint = hint
        self._credential: DefaultAzureCredential | None = None
        self._token: AccessTokenInfo | None = None
        self._wait_until = 0.0
        self._current = Renewal(self._get, what="token for az://", limit_secs=_RENEW_SECS)
        self._anew = Renewal(self._get_anew, what="token for az://", limit_secs=_RENEW_SECS)

    async def valid(self) -> str:
        """Return a token that is good for the next minutes.

        Raises:
            AuthenticationError: nobody is logged in, or the login is refused.
            TransientError: whoever gives out tokens did not answer.
        """
        token = self._token
        if token is None or token.expires_on <= time.time():
            token = await self._current()
        elif _renew_at(token) <= time.time() and time.monotonic() >= self._wait_until:
            try:
                token = await self._current()
            except StorageError as error:
                # It is good for a while yet; if the store thinks otherwise, it says so.
                self._wait_until = time.monotonic() + _PAUSE_SECS
                _log.warning("the token for az:// could not be renewed yet, and is used as it is: %s", error)
        self._token = token
        return token.token

    async def renew(self, refused: str) -> bool:
        """Get another token in place of one that the store refused; tell whether there is one."""
        if self._token is not None and self._token.token == refused:
            self._token = await self._anew()
        return self._token is not None and self._token.token != refused

    async def aclose(self) -> None:
        """Give up a renewal under way, and close what it asked."""
        await self._current.aclose()
        await self._anew.aclose()
        await asyncio.to_thread(self._forget)

    def _get_anew(self) -> AccessTokenInfo:
        """Ask as if for the first time: a credential gives out a token again until it expires."""
        self._forget()
        return self._get()

    def _forget(self) -> None:
        credential, self._credential = self._credential, None
        if credential is not None:
            credential.close()

    def _get(self) -> AccessTokenInfo:
        """Ask the chain of credentials; blocks, so it runs on a worker thread, one call at a time."""
        try:
            if self._credential is None:
                # Nothing interactive: a training run has nobody to ask.
                self._credential = DefaultAzureCredential(
                    exclude_interactive_browser_credential=True,
                    exclude_visual_studio_code_credential=True,
                )
            options: TokenRequestOptions = {}
            return self._credential.get_token_info(SCOPE, options=options)
        except (CredentialUnavailableError, ClientAuthenticationError) as error:
            if self._token is not None:
                # There was a login: whoever gives out its tokens may be back soon.
                raise TransientError(f"no token for az:// any more ({_reason(error)})") from error
            raise AuthenticationError(
                f"no credentials for az:// ({_reason(error)}); run: az login, or set AZURE_STORAGE_KEY, "
                "AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, or give anonymous=true for a "
                f"public container{self._hint}"
            ) from error
        except (AzureError, OSError) as error:
            raise TransientError(f"no token for az:// ({_reason(error)})") from error


def _renew_at(token: AccessTokenInfo) -> float:
    return token.refresh_on if token.refresh_on is not None else token.expires_on - _AHEAD_SECS


def _reason(error: Exception) -> str:
    """Return the beginning of a message: the chain's says of each credential why it is none."""
    return " ".join(str(error).split())[:_REASON_CHARS]
