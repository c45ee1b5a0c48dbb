"""A kind of request that not every store knows: it is tried once, and the refusal remembered."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ackpt.errors import UnsupportedError

_log = logging.getLogger(__name__)


class Spoken:
    """Remember, for one backend, whether its store knows a kind of request."""

    def __init__(self, where: str, what: str, instead: str) -> None:
        """Suppose that it does; the words are those of the one line in the log when it does not."""
        self._where = where
        self._what = what
        self._instead = instead
        self._refusal: str | None = None

    @contextmanager
    def tried(self) -> Iterator[None]:
        """Try such a request, unless it was refused before.

        Raises:
            UnsupportedError: the store does not know it; asked now, or at another time.
        """
        if self._refusal is not None:
            raise UnsupportedError(self._refusal)
        try:
            yield
        except UnsupportedError as error:
            if self._refusal is None:
                self._refusal = str(error)
                _log.info("%s knows no %s: %s", self._where, self._what, self._instead)
            raise
