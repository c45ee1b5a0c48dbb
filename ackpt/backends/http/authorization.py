"""How requests are authorized: a strategy that a backend passes to its session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from ackpt.backends.http.message import Request
from ackpt.backends.http.refusal import Refusal


class Authorization(ABC):
    """Give requests the headers that authorize them; used on one event loop."""

    @abstractmethod
    async def headers(self, request: Request) -> Mapping[str, str]:
        """Return what authorizes `request` now: headers to be added to its own.

        Raises:
            AuthenticationError: there are no credentials, or they cannot be renewed.
            TransientError: whoever gives out credentials did not answer.
        """

    @abstractmethod
    async def renew(self, refused: Mapping[str, str], refusal: Refusal) -> bool:
        """Get other credentials after `refused` was answered with `refusal`; tell whether to try again.

        False for a refusal that has nothing to do with credentials.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Give up a renewal under way; idempotent."""

    def is_nobody(self) -> bool:
        """Tell whether requests go without any credentials."""
        return False


class Anonymous(Authorization):
    """Send requests as nobody."""

    async def headers(self, request: Request) -> Mapping[str, str]:
        """Return none."""
        return {}

    async def renew(self, refused: Mapping[str, str], refusal: Refusal) -> bool:
        """Tell that there is nothing to renew."""
        return False

    async def aclose(self) -> None:
        """Do nothing."""

    def is_nobody(self) -> bool:
        """Tell that requests go without any."""
        return True
