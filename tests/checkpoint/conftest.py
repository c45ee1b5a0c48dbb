"""What the tests of the checkpoint room share."""

from tests.snapshot.conftest import small_disk

__all__ = ["small_disk"]
