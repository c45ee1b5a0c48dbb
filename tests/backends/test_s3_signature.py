"""Signatures of `s3://`: those of Amazon's published examples, and held to by a strict server."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import pytest
from yarl import URL

from ackpt.backends.http.message import Content, Request
from ackpt.backends.http.purpose import Purpose
from ackpt.backends.s3.credentials import Keys
from ackpt.backends.s3.signature import sign
from tests.backends.s3_support import body_of, data_of, open_s3
from tests.servers.s3 import S3Server

PURPOSE = Purpose(action="try", bucket="examplebucket")
EXAMPLE_KEYS = Keys(
    access_key="AKIAIOSFODNN7EXAMPLE",
    secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",  # published, and nobody's
)
EXAMPLE_HOST = "https://examplebucket.s3.amazonaws.com"


# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html#example-signature-calculations
@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        (
            "GET",
            "/test.txt",
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("GET", "/?lifecycle", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_signatures_are_those_of_the_published_examples(
    method: str, path: str, headers: dict[str, str], expected: str
) -> None:
    url = URL(EXAMPLE_HOST + path, encoded=True)
    request = Request(method=method, url=url, purpose=PURPOSE, headers=headers)
    now = datetime(2013, 5, 24, tzinfo=UTC)
    signed = sign(request, EXAMPLE_KEYS, region="us-east-1", now=now)
    assert signed["authorization"].endswith(f"Signature={expected}")
    assert signed["x-amz-date"] == "20130524T000000Z"


def test_a_body_in_memory_is_signed_by_its_hash_and_a_streamed_one_is_not() -> None:
    url = URL(EXAMPLE_HOST + "/key", encoded=True)
    content = Content.of(b"Welcome to Amazon S3.", "text/plain")
    whole = Request(method="PUT", url=url, purpose=PURPOSE, content=content)
    streamed = replace(whole, content=replace(content, data=None))
    now = datetime(2013, 5, 24, tzinfo=UTC)
    assert sign(whole, EXAMPLE_KEYS, region="us-east-1", now=now)["x-amz-content-sha256"] == (
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"  # of the published example
    )
    unsigned = sign(streamed, EXAMPLE_KEYS, region="us-east-1", now=now)
    assert unsigned["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize(
    "change",
    [
        {"x-amz-storage-class": "GLACIER"},  # not among the signed ones
        {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
        {"x-amz-date": "20130524T000000Z"},
        {"content-type": "text/plain"},
    ],
)
async def test_the_test_server_refuses_a_request_that_is_not_as_it_was_signed(
    s3_server: S3Server, s3_bucket: str, change: dict[str, str]
) -> None:
    key = s3_server.key
    url = URL(f"{s3_server.url}/{s3_bucket}/key", encoded=True)
    content = Content.of(b"bytes")
    request = Request(method="PUT", url=url, purpose=PURPOSE, content=content)
    keys = Keys(access_key=key.access_key, secret_key=key.secret_key)
    signed = sign(request, keys, region="us-east-1", now=datetime.now(UTC))
    headers = {"content-type": content.kind, **signed}
    async with aiohttp.ClientSession() as session:
        async with session.put(url, data=b"bytes", headers={**headers, **change}) as response:
            assert response.status in (400, 403)
        async with session.put(url, data=b"bytez", headers=headers) as response:
            assert response.status == 400
        async with session.delete(url, headers=headers) as response:
            assert response.status == 403
        assert s3_server.names(s3_bucket) == []
        async with session.put(url, data=b"bytes", headers=headers) as response:
            assert response.status == 200


async def test_every_request_is_signed_with_all_that_it_says(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket, storage_class="STANDARD_IA") as backend:
        await backend.put("key", body_of(data_of(3 << 20)))
    (entry,) = s3_server.log("PutObject")
    names = entry.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "content-type", "x-amz-storage-class", "x-amz-checksum-crc32c"} <= set(names)


async def test_signing_logs_neither_keys_nor_tokens(
    s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = s3_server.new_key(token="a-session-token", secs=3600.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-session-token")
    monkeypatch.setenv("OWN_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    with caplog.at_level(logging.DEBUG):
        async with open_s3(s3_server.url, s3_bucket, encryption_key_env="OWN_KEY") as backend:
            await backend.put("key", body_of(b"bytes"))
            texts = [
                caplog.text,
                repr(backend._bucket._session._authorization),
                repr(backend._bucket.settings),
            ]
    for secret in (key.secret_key, "a-session-token", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="):
        assert not [text for text in texts if secret in text]
