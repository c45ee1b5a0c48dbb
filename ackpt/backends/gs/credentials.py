"""Tokens: found as google-auth finds them, renewed before they expire, by one thread at a time."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.transport.requests
from google.auth import impersonated_credentials
from google.auth.credentials import TokenState
from google.oauth2 import service_account

from ackpt.backends.gs.endpoint import universe
from ackpt.backends.http.authorization import Anonymous, Authorization
from ackpt.backends.http.message import Request
from ackpt.backends.http.refusal import Refusal
from ackpt.backends.http.renewal import Renewal
from ackpt.errors import AuthenticationError, StorageError, TransientError

if TYPE_CHECKING:
    from ackpt.backends.gs.options import GSOptions

_log = logging.getLogger(__name__)

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
"""Read and write objects, not access control: https://cloud.google.com/storage/docs/authentication"""

_RENEW_SECS = 180.0
_REASON_CHARS = 300


class GoogleTokens(Authorization):
    """Take tokens from google-auth, whose calls block and so run on a worker thread."""

    def __init__(self, options: GSOptions) -> None:
        self._options = options
        self._credentials: google.auth.credentials.Credentials | None = None
        self._renewed = Renewal(self._get, what="token for gs://", limit_secs=_RENEW_SECS)

    async def headers(self, request: Request) -> Mapping[str, str]:
        """Return the token, renewed where it is stale; see `Authorization.headers`."""
        state = TokenState.INVALID if self._credentials is None else self._credentials.token_state
        if state is not TokenState.FRESH:
            try:
                await self._renewed()
            except TransientError as error:
                # Stale is not expired: google-auth asks for a new token some minutes ahead.
                if state is TokenState.INVALID:
                    raise
                _log.warning("the token for gs:// could not be renewed yet, and is used as it is: %s", error)
        return self._written()

    async def renew(self, refused: Mapping[str, str], refusal: Refusal) -> bool:
        """Renew after a 401, unless another request has done so since `refused` was written."""
        if refusal.status != 401:
            return False
        if self._written() == refused:
            await self._renewed()
        return self._written() != refused

    async def aclose(self) -> None:
        """Give up a renewal under way; its thread ends by itself and is not waited for."""
        await self._renewed.aclose()

    def _written(self) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        assert self._credentials is not None, "a token was asked for before"
        self._credentials.apply(headers)  # type: ignore[no-untyped-call]
        return headers

    def _get(self) -> None:
        self._credentials = _renew(self._credentials, self._options)


def find_tokens(options: GSOptions, *, emulated: bool) -> Authorization:
    """Choose by what the URL asks for; an emulator gets no credentials unless it does.

    As google-cloud-storage does (googleapis/python-storage: google/cloud/storage/client.py).
    """
    return Anonymous() if is_anonymous(options, emulated=emulated) else GoogleTokens(options)


def is_anonymous(options: GSOptions, *, emulated: bool) -> bool:
    """Tell whether no credentials are to be sent."""
    asked = options.credentials is not None or options.impersonate is not None
    return (emulated and not asked) if options.anonymous is None else options.anonymous


def _renew(
    credentials: google.auth.credentials.Credentials | None, options: GSOptions
) -> google.auth.credentials.Credentials:
    """Find the credentials if need be, and get a token; blocks."""
    try:
        found = load(options) if credentials is None else credentials
        found.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    except google.auth.exceptions.MalformedError as error:
        raise auth_error(error, options) from error
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise AuthenticationError(
            f"no credentials for gs:// ({_reason(error)}); run: gcloud auth application-default login, or "
            "name a key file in GOOGLE_APPLICATION_CREDENTIALS or the URL option 'credentials', or give "
            "anonymous=true for a public bucket"
        ) from error
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
        raise auth_error(error, options) from error
    return found


def load(options: GSOptions) -> google.auth.credentials.Credentials:
    """Find credentials; reads files, and may ask a metadata server. Raises google-auth's errors."""
    credentials: google.auth.credentials.Credentials
    if options.credentials is not None:
        credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
            options.credentials, scopes=[SCOPE]
        )
    else:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    if options.impersonate is not None:
        credentials = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
            source_credentials=credentials, target_principal=options.impersonate, target_scopes=[SCOPE]
        )
    if options.project is not None and isinstance(
        credentials, google.auth.credentials.CredentialsWithQuotaProject
    ):
        credentials = credentials.with_quota_project(options.project)  # type: ignore[no-untyped-call]
    if credentials.universe_domain != universe(options):
        raise AuthenticationError(
            f"the credentials belong to the universe domain {credentials.universe_domain!r}, the URL to "
            f"{universe(options)!r}; give the URL option universe_domain, or other credentials"
        )
    return credentials


def auth_error(error: Exception, options: GSOptions) -> StorageError:
    """Choose the error of ours for what google-auth raised."""
    what = f"no token for gs:// ({_reason(error)})"
    if isinstance(error, google.auth.exceptions.GoogleAuthError) and error.retryable:
        return TransientError(what)
    if isinstance(error, google.auth.exceptions.TransportError):
        return TransientError(what)
    return AuthenticationError(
        f"{what}; check {_source(options)}, or log in again: gcloud auth application-default login"
    )


def _reason(error: Exception) -> str:
    """Tell an error's first words, and drop the rest: a token server's whole answer follows them."""
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        error.args = error.args[:1]
    return " ".join(str(error).split())[:_REASON_CHARS]


def _source(options: GSOptions) -> str:
    """Name where the credentials came from, for whoever has to look there."""
    file = options.credentials or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return f"the key file {file}" if file else "the credentials"
