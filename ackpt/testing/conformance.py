"""The conformance suite: one pytest class with all laws, which a backend's author subclasses."""

from __future__ import annotations

import inspect
from typing import ClassVar

import pytest

from ackpt.testing.law import Laws, MakeBackend
from ackpt.testing.laws_condition import ConditionLaws
from ackpt.testing.laws_copy import CopyLaws
from ackpt.testing.laws_integrity import IntegrityLaws
from ackpt.testing.laws_key import KeyLaws
from ackpt.testing.laws_object import ObjectLaws
from ackpt.testing.laws_parts import PartLaws
from ackpt.testing.laws_upload import UploadLaws


class BackendConformance(ObjectLaws, KeyLaws, IntegrityLaws, ConditionLaws, UploadLaws, PartLaws, CopyLaws):
    """Prove that a backend keeps the laws that the core of ackpt stands on.

    Subclass it in a test module, with a fixture that returns a callable; every call opens another
    backend on the same place, which is empty at first and the test's own:

        class TestMyStore(BackendConformance):
            @pytest.fixture
            def make_backend(self):
                url = f"mystore://test/{uuid.uuid4()}"
                return lambda: ackpt.open_backend(url)

    What the backend cannot do by its type (not a `MultipartBackend`, a `SingleWriter` …) is
    skipped. What the *store* cannot do is stated, and shows as an expected failure:

            cannot = {"test_long_keys_are_kept_as_they_are": "the store allows 64 bytes"}

    A law cannot be overridden. Needs pytest and pytest-asyncio (`pip install 'ackpt[testing]'`).
    """

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Refuse a class that changes a law, or that excuses one that does not exist.

        Raises:
            TypeError: it does.
        """
        super().__init_subclass__(**kwargs)
        laws = BackendConformance.laws()
        for name in laws:
            if inspect.getattr_static(cls, name) is not inspect.getattr_static(BackendConformance, name):
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
            name: inspect.cleandoc(getattr(cls, name).__doc__)
            for kind in reversed(BackendConformance.__mro__)
            if issubclass(kind, Laws)
            for name in vars(kind)
            if name.startswith("test_")
        }

    @classmethod
    async def check(cls, name: str, make_backend: MakeBackend) -> None:
        """Check one law without a test runner; raises whatever it fails with, or pytest's skip or xfail."""
        await getattr(cls(), name)(make_backend)

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        """Ask the author for the one thing that the suite needs."""
        raise NotImplementedError(
            f"{type(self).__name__} has no fixture 'make_backend'; "
            "define one that returns a callable which opens a backend on a fresh place"
        )
