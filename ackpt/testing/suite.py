"""What the suites that a backend's author subclasses have in common: no law can be dropped silently."""

from __future__ import annotations

import inspect
from typing import ClassVar

import pytest

from ackpt.testing.law import Laws, MakeBackend, is_law


class Suite(Laws):
    """Be the base of `BackendConformance` and `Scenarios`."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Refuse a class that changes a law, or that excuses one that does not exist.

        Raises:
            TypeError: it does.
        """
        super().__init_subclass__(**kwargs)
        laws = cls.laws()
        for kind in cls.__mro__:
            for name, value in vars(kind).items():
                if is_law(value) and inspect.getattr_static(cls, name) is not value:
                    raise TypeError(
                        f"{cls.__name__} overrides the law {name}; "
                        f"state what the store cannot do instead: cannot = {{{name!r}: 'reason'}}"
                    )
        for name, reason in cls.cannot.items():
            if name not in laws:
                raise TypeError(f"{cls.__name__}.cannot names {name!r}, which is no law")
            if not reason.strip():
                raise TypeError(f"{cls.__name__}.cannot gives no reason for {name!r}")

    @classmethod
    def laws(cls) -> dict[str, str]:
        """Return the laws, each name with its sentence, for tables in documentation."""
        return {
            name: inspect.cleandoc(value.__doc__ or "")
            for kind in reversed(cls.__mro__)
            for name, value in vars(kind).items()
            if is_law(value)
        }

    @classmethod
    async def check(cls, name: str, make_backend: MakeBackend) -> None:
        """Check one law without a test runner; raises whatever it fails with, or pytest's skip or xfail."""
        await getattr(cls(), name)(make_backend)

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        """Ask the author for the one thing that a suite needs."""
        raise NotImplementedError(
            f"the class {type(self).__name__} has no fixture 'make_backend'; define one in it (one outside, "
            "in the module or a conftest.py, does not count), or in a mixin before the suite: it returns a "
            "callable which opens a backend on a fresh place"
        )
