"""What the tests of the engine share."""

from tests.snapshot.conftest import small_disk

__all__ = ["small_disk"]
