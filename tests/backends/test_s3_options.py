"""What an `s3://` URL can say, where the bucket is found, and in which region."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from ackpt.backends.base import CopyingBackend, IfAbsent, MultipartBackend, SingleWriter
from ackpt.backends.registry import open_backend
from ackpt.backends.s3 import bucket as bucket_module
from ackpt.backends.s3.endpoint import Endpoint, amazon_host
from ackpt.backends.s3.options import S3Options
from ackpt.errors import (
    BucketNotFoundError,
    InvalidOptionError,
    InvalidURLError,
    MissingDependencyError,
    StorageError,
    TransientError,
)
from ackpt.options import read_options
from tests.backends.s3_support import body_of, isolate, open_s3, read, send, set_variables
from tests.servers.s3 import S3Server


def options(**given: str) -> S3Options:
    return read_options(S3Options, given, where="s3://bucket/run")


def base(bucket: str, host: str, addressing: str | None = None) -> str:
    return Endpoint.of(bucket, host=host, region="eu-west-1", addressing=addressing).base


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("endpoint", "minio:9000", "a URL such as"),
        ("endpoint", "https://key:secret@host", "a URL such as"),
        ("endpoint", "https://host?x=1", "a URL such as"),
        ("region", "eu west 1", "a region such as"),
        ("region", "evil.example/", "a region such as"),
        ("addressing", "host", "one of path, virtual"),
        ("anonymous", "yes", "true or false"),
        ("sse", "aes", "one of AES256"),
        ("conditional_writes", "no", "true or false"),
        ("timeout", "0s", "more than 0 s"),
        ("profile", "", "a profile's name"),
    ],
)
def test_a_value_out_of_range_says_what_was_expected(name: str, value: str, words: str) -> None:
    with pytest.raises(InvalidOptionError, match=words) as caught:
        options(**{name: value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"anonymous": "true", "profile": "other"},
        {"sse": "AES256", "kms_key": "alias/key"},
        {"sse": "AES256", "encryption_key_env": "KEY"},
        {"kms_key": "alias/key", "encryption_key_env": "KEY"},
    ],
)
def test_options_that_exclude_each_other_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidOptionError, match="give|needs"):
        options(**given)


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(InvalidOptionError, match="storage_class"):
        open_backend("s3://bucket/run?storage_clas=STANDARD")


def test_opening_does_no_io_and_takes_transfer_options() -> None:
    backend = open_backend("s3://no-such-bucket/run?part_size=8MiB&storage_class=GLACIER_IR&profile=nobody")
    assert isinstance(backend, MultipartBackend)
    assert isinstance(backend, CopyingBackend)
    assert not isinstance(backend, SingleWriter)


def test_a_store_without_conditional_writes_is_a_single_writer_by_its_type() -> None:
    backend = open_backend("s3://bucket/run?conditional_writes=false")
    assert isinstance(backend, SingleWriter)
    assert isinstance(backend, MultipartBackend)


@pytest.mark.parametrize("bucket", ["name--use1-az4--x-s3", "arn%3Aaws%3As3%3A%3A%3Abucket"])
def test_buckets_of_another_kind_are_refused(bucket: str) -> None:
    with pytest.raises(InvalidURLError, match="general purpose bucket"):
        open_backend(f"s3://{bucket}/run")


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidURLError) as caught:
        open_backend("s3://AKIA123:hunter2@bucket/run")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "c2hvcnQ=", "no base64"])
def test_a_key_of_one_s_own_that_is_none_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    set_variables(monkeypatch, {"OWN_KEY": value})
    with pytest.raises(InvalidOptionError, match="OWN_KEY") as caught:
        open_backend("s3://bucket/run?encryption_key_env=OWN_KEY")
    assert value is None or value not in str(caught.value)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    for name in [name for name in sys.modules if name.startswith(("ackpt.backends.s3", "botocore."))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'ackpt\[s3\]'"):
        open_backend("s3://bucket/run")


def test_the_bucket_goes_into_the_host_where_that_works() -> None:
    amazon = amazon_host("eu-west-1")
    assert base("bucket", amazon) == "https://bucket.s3.eu-west-1.amazonaws.com"
    assert base("my.bucket", amazon) == "https://s3.eu-west-1.amazonaws.com/my.bucket"
    assert base("bucket", "http://127.0.0.1:9000") == "http://127.0.0.1:9000/bucket"
    assert base("bucket", amazon, "path") == "https://s3.eu-west-1.amazonaws.com/bucket"
    assert base("bucket", "https://store.example/s3", "virtual") == "https://bucket.store.example/s3"
    assert base("bucket", "https://amazonaws.com.evil.example") == "https://amazonaws.com.evil.example/bucket"


def test_every_partition_has_its_domain() -> None:
    assert amazon_host("us-gov-west-1") == "https://s3.us-gov-west-1.amazonaws.com"
    assert amazon_host("cn-north-1") == "https://s3.cn-north-1.amazonaws.com.cn"
    assert amazon_host("eusc-de-east-1") == "https://s3.eusc-de-east-1.amazonaws.eu"


def test_names_are_encoded_as_signatures_want_them() -> None:
    endpoint = Endpoint(base="https://host/bucket", region="us-east-1")
    url = endpoint.url("a//b/../c d+e%f?g#h~ü", {"uploads": "", "prefix": "x y+&/"})
    assert str(url) == (
        "https://host/bucket/a//b/../c%20d%2Be%25f%3Fg%23h~%C3%BC?uploads&prefix=x%20y%2B%26%2F"
    )


async def test_a_file_of_authorities_that_is_not_there_is_named(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent/authorities.pem")
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(StorageError, match="correct AWS_CA_BUNDLE") as caught:
            await backend.put("key", body_of(b"bytes"))
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
async def test_the_environment_s_endpoint_is_found(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, s3_server.url)
    backend = open_backend(f"s3://{s3_bucket}/run")
    await backend.put("key", body_of(b"bytes"))
    await backend.aclose()
    assert s3_server.names(s3_bucket) == ["run/key"]


async def test_a_profile_s_endpoint_and_region_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolate(monkeypatch)
    with S3Server(region="garage") as server:
        server.create_bucket("bucket")
        set_variables(monkeypatch, {**server.key.environment(), "AWS_CONFIG_FILE": str(tmp_path / "config")})
        (tmp_path / "config").write_text(f"[profile lab]\nregion = garage\nendpoint_url = {server.url}\n")
        monkeypatch.setenv("AWS_PROFILE", "lab")
        backend = open_backend("s3://bucket/run")
        await backend.put("key", body_of(b"bytes"))
        await backend.aclose()
        assert server.names("bucket") == ["run/key"]


@pytest.fixture
def amazon(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> S3Server:
    """Let the server be Amazon, in every region: it is the proxy on the way to all hosts."""
    monkeypatch.setenv("http_proxy", s3_server.url)
    monkeypatch.setattr(bucket_module, "amazon_host", lambda region: f"http://s3.{region}.amazonaws.com")
    caplog.set_level(logging.INFO, logger="ackpt")
    return s3_server


async def test_the_region_is_asked_for_once_and_the_bucket_is_in_the_host(
    amazon: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    amazon.create_bucket("far", region="ap-southeast-2")
    backend = open_backend("s3://far/run")
    await backend.put("a//b c+d", body_of(b"bytes"), condition=IfAbsent())
    assert await read(backend, "a//b c+d") == b"bytes"
    await backend.aclose()
    first, *others = amazon.log()
    assert (first.operation, first.host) == ("HeadBucket", "s3.us-east-1.amazonaws.com")
    assert "authorization" not in first.headers
    assert {entry.host for entry in others} == {"far.s3.ap-southeast-2.amazonaws.com"}
    assert [entry.operation for entry in others] == ["PutObject", "GetObject"], "Amazon needs no proof"
    assert caplog.text.count("is in the region ap-southeast-2") == 1


async def test_the_configured_region_is_where_it_is_asked_for(
    amazon: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    amazon.create_bucket("near", region="eu-west-1")
    backend = open_backend("s3://near/run")
    await backend.put("key", body_of(b"bytes"))
    await backend.aclose()
    assert {entry.host for entry in amazon.log()} == {
        "s3.eu-west-1.amazonaws.com",
        "near.s3.eu-west-1.amazonaws.com",
    }


async def test_a_bucket_that_is_not_there_yet_is_found_once_it_is(amazon: S3Server) -> None:
    backend = open_backend("s3://later/run")
    for _ in range(2):
        with pytest.raises(BucketNotFoundError, match="aws s3 mb s3://later"):
            await backend.head("key")
    amazon.create_bucket("later", region="eu-west-1")
    await backend.put("key", body_of(b"bytes"))
    await backend.aclose()


async def test_a_region_that_is_given_is_not_asked_for(amazon: S3Server) -> None:
    amazon.create_bucket("far", region="ap-southeast-2")
    backend = open_backend("s3://far/run?region=ap-southeast-2")
    await backend.put("key", body_of(b"bytes"))
    await backend.aclose()
    assert [entry.operation for entry in amazon.log()] == ["PutObject"]


async def test_a_wrong_region_says_the_right_one(amazon: S3Server) -> None:
    amazon.create_bucket("far", region="ap-southeast-2")
    backend = open_backend("s3://far/run?region=eu-west-1")
    upload_and_put = (backend.put("key", body_of(b"bytes")), backend.head("key"))
    for request in upload_and_put:
        with pytest.raises(StorageError, match="'far' is in the region ap-southeast-2: give region=ap-south"):
            await request
    await backend.aclose()


async def test_a_region_wrong_in_the_signature_says_the_right_one(
    s3_server: S3Server, s3_bucket: str
) -> None:
    async with open_s3(s3_server.url, s3_bucket, region="eu-west-1") as backend:
        with pytest.raises(StorageError, match="give region=us-east-1"):
            await backend.put("key", body_of(b"bytes"))


async def test_a_store_that_wants_the_bucket_in_the_host(amazon: S3Server) -> None:
    amazon.create_bucket("my.bucket")
    host = "http://s3.us-east-1.amazonaws.com"
    async with open_s3(host, "my.bucket", addressing="virtual", region="us-east-1") as backend:
        upload = await backend.create_upload("key")
        await upload.complete(await send(upload, [b"bytes"]))
        assert [info.key async for info in backend.list()] == ["key"]
    assert {entry.host for entry in amazon.log()} == {"my.bucket.s3.us-east-1.amazonaws.com"}
