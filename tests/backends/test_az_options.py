"""What an `az://` URL and the environment can say, and which account and credentials come of it."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping

import pytest

from ackpt.backends.az.account import Account
from ackpt.backends.az.options import AzOptions
from ackpt.backends.az.settings import BlobSettings
from ackpt.backends.base import CopyingBackend, MultipartBackend, SingleWriter
from ackpt.backends.registry import open_backend
from ackpt.errors import InvalidOptionError, InvalidURLError, MissingDependencyError
from ackpt.options import read_options
from tests.backends.az_support import body_of, isolate, open_az
from tests.servers.azure import AzureServer

KEY = base64.b64encode(b"k" * 64).decode()
SAS = "sv=2021-12-02&sp=rw&sig=abc%3D"
ENCRYPTION_KEY = base64.b64encode(b"e" * 32).decode()


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)


def options(**given: str) -> AzOptions:
    return read_options(AzOptions, given, where="az://container/run")


def find(environment: Mapping[str, str], **given: str) -> Account:
    return Account.find(options(**given), environment, where="az://container/run")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("account", "No_Such", "an account's name"),
        ("account", "evil.example/", "an account's name"),
        ("endpoint", "127.0.0.1:10000", "a URL such as"),
        ("endpoint", "https://key:secret@host", "a URL such as"),
        ("endpoint", "https://host?sig=secret", "a URL such as"),
        ("anonymous", "yes", "true or false"),
        ("tier", "Archive", "one of Hot, Cool, Cold"),
        ("encryption_scope", "", "an encryption scope's name"),
        ("timeout", "0s", "more than 0 s"),
    ],
)
def test_a_value_out_of_range_says_what_was_expected(name: str, value: str, words: str) -> None:
    with pytest.raises(InvalidOptionError, match=words) as caught:
        options(**{name: value})
    assert "secret" not in str(caught.value)


def test_a_scope_and_a_key_exclude_each_other() -> None:
    with pytest.raises(InvalidOptionError, match="give one of them"):
        options(encryption_scope="scope", encryption_key_env="KEY")


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(InvalidOptionError, match="encryption_scope"):
        open_backend("az://container/run?account=name&encrypt_scope=x")


@pytest.mark.parametrize(
    "bucket", ["account.blob.core.windows.net", "Container", "my_container", "ab", "double--dash", "-dash"]
)
def test_a_host_or_a_bad_name_is_no_container(bucket: str) -> None:
    with pytest.raises(InvalidURLError, match=r"expected az://container/path\?account=name"):
        open_backend(f"az://{bucket}/container/run?account=name")


@pytest.mark.parametrize("path", ["back%5Cslash", "a/../b", "..", "./a", "a/."])
def test_a_path_that_azure_would_tidy_up_is_refused(path: str) -> None:
    with pytest.raises(InvalidURLError, match="Azure takes a backslash for a slash"):
        open_backend(f"az://container/{path}?account=name&anonymous=true")


def test_a_url_without_an_account_says_where_it_can_be_named() -> None:
    with pytest.raises(InvalidOptionError, match=r"option 'account', or set AZURE_STORAGE_ACCOUNT"):
        open_backend("az://container/run")


def test_opening_does_no_io_and_takes_transfer_options() -> None:
    backend = open_backend("az://container/run?account=nosuchaccount&part_size=8MiB&tier=Cool")
    assert isinstance(backend, MultipartBackend)
    assert isinstance(backend, CopyingBackend)
    assert not isinstance(backend, SingleWriter)


def test_with_a_key_of_the_callers_own_nothing_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINT_KEY", ENCRYPTION_KEY)
    backend = open_backend("az://container/run?account=name&encryption_key_env=CHECKPOINT_KEY")
    assert isinstance(backend, MultipartBackend)
    assert not isinstance(backend, CopyingBackend)


@pytest.mark.parametrize(
    ("environment", "given", "name", "url"),
    [
        ({}, {"account": "mine"}, "mine", "https://mine.blob.core.windows.net"),
        ({"AZURE_STORAGE_ACCOUNT": "mine"}, {}, "mine", "https://mine.blob.core.windows.net"),
        (
            {},
            {"endpoint": "https://mine.blob.core.chinacloudapi.cn"},
            "mine",
            "https://mine.blob.core.chinacloudapi.cn",
        ),
        ({}, {"endpoint": "http://127.0.0.1:10000/mine"}, "mine", "http://127.0.0.1:10000/mine"),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"},
            {},
            "devstoreaccount1",
            "http://127.0.0.1:10000/devstoreaccount1",
        ),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=https;AccountName=mine;"
                f"AccountKey={KEY};EndpointSuffix=core.usgovcloudapi.net"
            },
            {},
            "mine",
            "https://mine.blob.core.usgovcloudapi.net",
        ),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint=https://mine.blob.core.windows.net/;SharedAccessSignature={SAS}"
            },
            {},
            "mine",
            "https://mine.blob.core.windows.net",
        ),
    ],
)
def test_the_account_and_its_place_are_found(
    environment: Mapping[str, str], given: Mapping[str, str], name: str, url: str
) -> None:
    account = find(environment, **given)
    assert (account.name, account.url) == (name, url)


def test_a_connection_string_comes_before_a_key_and_that_before_a_signature() -> None:
    connection = f"AccountName=mine;AccountKey={base64.b64encode(b'first').decode()}"
    environment = {
        "AZURE_STORAGE_CONNECTION_STRING": connection,
        "AZURE_STORAGE_KEY": base64.b64encode(b"second").decode(),
        "AZURE_STORAGE_SAS_TOKEN": f"?{SAS}",
    }
    assert find(environment, account="mine").key == b"first"
    del environment["AZURE_STORAGE_CONNECTION_STRING"]
    assert find(environment, account="mine").key == b"second"
    del environment["AZURE_STORAGE_KEY"]
    assert find(environment, account="mine").sas == SAS
    anonymous = find(environment, account="mine", anonymous="true")
    assert (anonymous.key, anonymous.sas) == (None, None)


@pytest.mark.parametrize(
    "environment",
    [
        {
            "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=mine;AccountKey={KEY};BlobEndpoint=https://mine.example"
        },
        {"AZURE_STORAGE_ACCOUNT": "mine", "AZURE_STORAGE_KEY": KEY},
        {"AZURE_STORAGE_ACCOUNT": "mine", "AZURE_STORAGE_SAS_TOKEN": SAS},
    ],
)
def test_what_belongs_to_another_account_is_left_out(environment: Mapping[str, str]) -> None:
    account = find(environment, account="other")
    assert (account.key, account.sas) == (None, None)
    assert account.url == "https://other.blob.core.windows.net"


@pytest.mark.parametrize(
    "environment",
    [
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=mine;AccountKey=secret!"},
        {"AZURE_STORAGE_CONNECTION_STRING": "secret"},
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=secret"},
        {"AZURE_STORAGE_KEY": "secret!"},
        {"AZURE_STORAGE_SAS_TOKEN": "secret"},
        {"AZURE_STORAGE_SAS_TOKEN": "sig=secret secret"},
        {"AZURE_STORAGE_ACCOUNT": "Secret!"},
    ],
)
def test_a_variable_that_makes_no_sense_is_named_and_not_told(environment: Mapping[str, str]) -> None:
    with pytest.raises(InvalidOptionError, match=next(iter(environment))) as caught:
        find({"AZURE_STORAGE_ACCOUNT": "mine", **environment})
    assert "secret" not in str(caught.value).lower()


def test_nothing_secret_shows_in_a_repr() -> None:
    assert "6b6b" not in repr(find({"AZURE_STORAGE_KEY": KEY}, account="mine"))
    assert "kkkk" not in repr(find({"AZURE_STORAGE_KEY": KEY}, account="mine"))
    assert "abc" not in repr(find({"AZURE_STORAGE_SAS_TOKEN": SAS}, account="mine"))


@pytest.mark.parametrize("text", [None, "secret", base64.b64encode(b"secret").decode()])
def test_an_encryption_key_that_is_none_is_not_told(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        monkeypatch.setenv("CHECKPOINT_KEY", text)
    with pytest.raises(InvalidOptionError, match="CHECKPOINT_KEY") as caught:
        BlobSettings.of(options(encryption_key_env="CHECKPOINT_KEY"))
    assert text is None or text not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"encryption_key_env": "CHECKPOINT_KEY"}])
def test_no_token_and_no_encryption_key_travel_in_the_clear(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHECKPOINT_KEY", ENCRYPTION_KEY)
    if given:
        monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    query = "&".join(f"{name}={value}" for name, value in given.items())
    with pytest.raises(InvalidOptionError, match="expected https://"):
        open_backend(f"az://container/run?account=name&endpoint=http://store.example&{query}")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ackpt.backends.az")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    with pytest.raises(MissingDependencyError, match=r"ackpt\[az\]"):
        open_backend("az://container/run?account=name")


async def test_tier_and_scope_go_with_what_is_written(az_server: AzureServer, az_container: str) -> None:
    async with open_az(az_server.url, az_container, tier="Cool", encryption_scope="scope") as backend:
        source = await backend.put("object", body_of(b"bytes"))
        upload = await backend.create_upload("parts")
        await upload.complete([await upload.put_part(1, body_of(b"bytes"))])
        assert isinstance(backend, CopyingBackend)
        await backend.copy(source, "copy")
    for name in ("object", "parts", "copy"):
        assert az_server.blob(az_container, f"run/{name}").kept == {
            "x-ms-access-tier": "Cool",
            "x-ms-encryption-scope": "scope",
        }


async def test_a_key_of_the_callers_own_is_needed_to_read(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHECKPOINT_KEY", ENCRYPTION_KEY)
    async with open_az(az_server.url, az_container, encryption_key_env="CHECKPOINT_KEY") as backend:
        await backend.put("object", body_of(b"bytes"))
        assert (await backend.head("object")).size == 5
        upload = await backend.create_upload("parts")
        await upload.complete([await upload.put_part(1, body_of(b"bytes"))])
    assert az_server.blob(az_container, "run/parts").key_sha256
    async with open_az(az_server.url, az_container) as other:
        with pytest.raises(Exception, match="encryption_key_env"):
            await anext(other.get("object"))
