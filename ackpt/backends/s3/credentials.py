"""Keys, and where a profile says the store is: found as botocore, and so the AWS CLI, finds them.

Everything here blocks (files, a metadata server, a token service) and runs on a worker thread.
The order of places: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import botocore.configprovider
import botocore.credentials
import botocore.exceptions
import botocore.session

from ackpt.errors import AuthenticationError, InvalidOptionError, StorageError, TransientError

_REASON_CHARS = 300
_UNREACHABLE = (
    botocore.exceptions.HTTPClientError,  # connections, proxies, time-outs
    botocore.exceptions.MetadataRetrievalError,
    OSError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Hold what signs requests; `token` comes with keys that are for a time only."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """Hold what environment and profile say of the place."""

    region: str | None
    endpoint: str | None


class Chain:
    """Find keys, and renew those that are for a time only."""

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._found: botocore.credentials.Credentials | None = None

    @property
    def stale(self) -> bool:
        """Tell whether `keys` would look for, or renew, something; botocore renews 15 minutes ahead.

        The only thing here that does not block.
        """
        if self._found is None:
            return True
        renewable = isinstance(self._found, botocore.credentials.RefreshableCredentials)
        return renewable and bool(self._found.refresh_needed())

    def keys(self) -> Keys:
        """Return keys that are valid now.

        Raises:
            AuthenticationError: there are none, or they cannot be renewed.
            TransientError: whoever gives them out did not answer.
        """
        try:
            if self._found is None:
                self._found = botocore.session.Session(profile=self._profile).get_credentials()
            frozen = None if self._found is None else self._found.get_frozen_credentials()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError) as error:
            raise _no_keys(error) from error
        if frozen is None or not frozen.access_key:
            raise AuthenticationError(
                "no credentials for s3://; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run: aws "
                "configure (or: aws sso login), or name a profile in the URL option 'profile', or give "
                "anonymous=true for a public bucket"
            )
        return Keys(access_key=frozen.access_key, secret_key=frozen.secret_key, token=frozen.token)

    def found_again(self) -> Keys:
        """Look for keys from the beginning: a file may have been written anew by somebody else.

        Raises as `keys`.
        """
        self._found = None
        return self.keys()


def configured(profile: str | None) -> Configured:
    """Read what environment and profile say of region and endpoint.

    `AWS_REGION` comes before `AWS_DEFAULT_REGION`, which alone botocore reads
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html); the endpoint's places:
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html

    Raises:
        InvalidOptionError: the profile is not there, or the configuration cannot be read.
    """
    try:
        session = botocore.session.Session(profile=profile)
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        endpoint = botocore.configprovider.ConfiguredEndpointProvider(
            full_config=session.full_config, scoped_config=session.get_scoped_config(), client_name="s3"
        ).provide()
    except botocore.exceptions.BotoCoreError as error:
        raise InvalidOptionError(f"the AWS configuration cannot be used: {_reason(error)}") from error
    return Configured(region=region or None, endpoint=endpoint or None)


def _no_keys(error: Exception) -> StorageError:
    what = f"no credentials for s3:// ({_reason(error)})"
    # "Could not be retrieved" says nothing by itself: what it was raised for does.
    if isinstance(error, _UNREACHABLE) or isinstance(error.__context__, _UNREACHABLE):
        return TransientError(what)
    if isinstance(error, botocore.exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or status == 429:
            return TransientError(what)
    return AuthenticationError(f"{what}; correct the profile or the environment, or log in: aws sso login")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_REASON_CHARS]
