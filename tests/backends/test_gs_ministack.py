"""The XML requests against an independent server: ministack, which speaks S3's, as GCS's are.

It has no JSON API, so the move into place is not played here, only what comes before it.
https://cloud.google.com/storage/docs/multipart-uploads ("compatible with Amazon S3 multipart uploads")
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.errors import DIALECT
from ackpt.backends.gs.multipart import Ticket
from ackpt.backends.gs.objects import ObjectSettings
from ackpt.backends.gs.xml_api import XmlApi, upload_purpose
from ackpt.backends.http.authorization import Anonymous
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.session import Session
from ackpt.errors import BucketNotFoundError, NotFoundError, StorageError
from tests.backends.gs_support import PART, body_of, data_of

BUCKET = "bucket"
PURPOSE = upload_purpose("upload", BUCKET, "key")
BEGIN = Purpose(action="begin", bucket=BUCKET, key="key", subject=Subject.BUCKET)
ODD_NAMES = ("run/large", "with space", "percent%20 100%", "q?a=1&b#c+d", "grüße/日本語/😀", "a//b")


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the emulator on a free port, and make a bucket in it."""
    command = shutil.which("ministack", path=str(Path(sys.executable).parent))
    assert command is not None, "ministack is not installed; run: make install"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3",
        "IOT_MTLS_ENABLED": "0",
        "HOME": str(tmp_path_factory.mktemp("ministack")),
    }
    process = subprocess.Popen(
        [command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _make_bucket(f"http://127.0.0.1:{port}/{BUCKET}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _make_bucket(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for the server, which takes a moment to start."""
    until = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5).close()
        except urllib.error.URLError:
            assert process.poll() is None, "ministack ended"
            assert time.monotonic() < until, "ministack did not start"
            time.sleep(0.05)
        else:
            return


@pytest.fixture
async def session(ministack: str) -> AsyncIterator[Session]:
    session = Session(Anonymous(), DIALECT, timeout_secs=20)
    yield session
    await session.aclose()


def xml_api(session: Session, base: str, bucket: str = BUCKET) -> XmlApi:
    endpoint = Endpoint(base=base, bucket=bucket)
    return XmlApi(session, endpoint, ObjectSettings(key_headers={}), billing_project=None)


async def stored(base: str, name: str) -> bytes:
    """Read an object as the emulator gives it."""
    url = Endpoint(base=base, bucket=BUCKET).xml(name)
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        assert response.status == 200
        return await response.read()


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_upload_in_parallel_parts(ministack: str, session: Session, name: str) -> None:
    api = xml_api(session, ministack)
    pieces = [data_of(PART, seed) for seed in range(3)] + [b"the end"]
    upload_id = await api.initiate(name, BEGIN)
    assert upload_id is not None
    receipts = await asyncio.gather(
        *(
            api.put_part(name, upload_id, number, body_of(piece), PURPOSE)
            for number, piece in enumerate(pieces, 1)
        )
    )
    listed = await api.list_parts(name, upload_id, PURPOSE)
    assert [(part.number, part.size) for part in listed] == [
        (receipt.number, receipt.size) for receipt in receipts
    ]
    await api.complete(name, upload_id, receipts[::-1], PURPOSE)
    assert await stored(ministack, name) == b"".join(pieces)


async def test_an_aborted_upload_is_gone(ministack: str, session: Session) -> None:
    api = xml_api(session, ministack)
    upload_id = await api.initiate("gone", BEGIN)
    assert upload_id is not None
    receipt = await api.put_part("gone", upload_id, 1, body_of(b"bytes"), PURPOSE)
    await api.abort("gone", upload_id, PURPOSE)
    for call in (
        api.put_part("gone", upload_id, 1, body_of(b"bytes"), PURPOSE),
        api.list_parts("gone", upload_id, PURPOSE),
        api.complete("gone", upload_id, [receipt], PURPOSE),
    ):
        with pytest.raises(NotFoundError, match="completed, aborted or has expired"):
            await call


async def test_unfinished_uploads_are_listed(ministack: str, session: Session) -> None:
    api = xml_api(session, ministack)
    names = [Ticket.new().aside(f"listed/{name}") for name in ODD_NAMES[1:]]
    begun = {name: await api.initiate(name, BEGIN) for name in names}
    found = {each.name: each.upload_id async for each in api.list_uploads("listed/", PURPOSE)}
    assert found == begun


async def test_a_missing_bucket_is_told_by_its_code(ministack: str, session: Session) -> None:
    api = xml_api(session, ministack, bucket="no-such-bucket")
    with pytest.raises(BucketNotFoundError):
        await api.initiate("key", BEGIN)


async def test_wrong_parts_are_refused(ministack: str, session: Session) -> None:
    api = xml_api(session, ministack)
    upload_id = await api.initiate("wrong", BEGIN)
    assert upload_id is not None
    receipt = await api.put_part("wrong", upload_id, 1, body_of(b"bytes"), PURPOSE)
    unknown = type(receipt)(number=2, size=5, token='"0123456789abcdef0123456789abcdef"')
    with pytest.raises(StorageError, match="InvalidPart"):
        await api.complete("wrong", upload_id, [receipt, unknown], PURPOSE)
