"""Which authorities the drivers trust: those of the environment, as our own connections do."""

from __future__ import annotations

import os
import ssl

from ackpt.backends.http.environment import CA_VARIABLES, tls_context
from ackpt.errors import StorageError


def read_authorities() -> ssl.SSLContext:
    """Make the TLS settings; blocks.

    Raises:
        StorageError: a file that a variable names cannot be read.
    """
    try:
        return tls_context()
    except OSError as error:
        variables = ", ".join(name for name in CA_VARIABLES if name in os.environ)
        raise StorageError(
            f"gs://: the authorities to trust cannot be read ({error}); correct {variables}"
        ) from error
