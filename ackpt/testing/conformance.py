"""The conformance suite: one pytest class with all laws, which a backend's author subclasses."""

from __future__ import annotations

from ackpt.testing.laws_condition import ConditionLaws
from ackpt.testing.laws_copy import CopyLaws
from ackpt.testing.laws_delete_many import ManyDeletionLaws
from ackpt.testing.laws_integrity import IntegrityLaws
from ackpt.testing.laws_key import KeyLaws
from ackpt.testing.laws_object import ObjectLaws
from ackpt.testing.laws_parts import PartLaws
from ackpt.testing.laws_upload import UploadLaws
from ackpt.testing.suite import Suite


class BackendConformance(
    ObjectLaws,
    KeyLaws,
    IntegrityLaws,
    ConditionLaws,
    UploadLaws,
    PartLaws,
    CopyLaws,
    ManyDeletionLaws,
    Suite,
):
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
