"""The columns of the table of laws: each backend and driver, with the classes that prove its laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "memory": (
        "tests.backends.test_memory:TestMemory",
        "tests.backends.test_scenarios:TestMemory",
    ),
    "file": (
        "tests.backends.test_file:TestFile",
        "tests.backends.test_scenarios:TestFile",
    ),
    "gs": (
        "tests.backends.test_gs_conformance:TestMultipart",
        "tests.backends.test_scenarios:TestGSMultipart",
    ),
    "gs, upload=resumable": (
        "tests.backends.test_gs_conformance:TestResumable",
        "tests.backends.test_scenarios:TestGSResumable",
    ),
    "gs, driver=google-cloud-storage": (
        "tests.backends.test_gs_drivers_conformance:TestCloudStorage",
        "tests.backends.test_gs_drivers_conformance:TestCloudStorageSaves",
    ),
    "gs, driver=gcsfs": (
        "tests.backends.test_gs_drivers_conformance:TestGcsfs",
        "tests.backends.test_gs_drivers_conformance:TestGcsfsSaves",
    ),
    "s3": (
        "tests.backends.test_s3_ministack:TestConditions",
        "tests.backends.test_scenarios:TestS3",
    ),
    "az": (
        "tests.backends.test_az_azurite:TestLaws",
        "tests.backends.test_az_conformance:TestSaves",
    ),
    "fsspec+file": (
        "tests.backends.test_fsspec_conformance:TestLocal",
        "tests.backends.test_scenarios:TestFsspecLocal",
    ),
    "fsspec+memory": (
        "tests.backends.test_fsspec_conformance:TestMemory",
        "tests.backends.test_scenarios:TestFsspecMemory",
    ),
    "fsspec+s3": (
        "tests.backends.test_fsspec_network:TestS3",
        "tests.backends.test_fsspec_network:TestS3Saves",
    ),
    "fsspec+sftp": (
        "tests.backends.test_fsspec_network:TestSFTP",
        "tests.backends.test_fsspec_network:TestSFTPSaves",
    ),
}
"""`make laws` plays them and writes `docs/reference/laws.md`."""
