"""The ways to upload files: ours and the peers', each as its own documentation says is fast.

A way is a coroutine function that takes files and an endpoint, and returns when all are stored. Peers that
compute checksums by default do so; the rest does not, and sends unsigned payloads where that is a choice.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.loopback import BUCKET

AT_ONCE = 8
PART_MIB = 8

Send = Callable[[Sequence[Path]], Awaitable[None]]
"""Upload files, under their own names."""

Way = Callable[[str, AsyncExitStack], Awaitable[Send]]
"""Open a client for an endpoint, to be closed at the end; return what it uploads with."""


async def ackpt_gs(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send as a save does."""
    return await _ackpt(f"gs://{BUCKET}?endpoint={endpoint}&anonymous=true", stack)


async def ackpt_s3(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send as a save does, with signatures."""
    return await _ackpt(f"s3://{BUCKET}?endpoint={endpoint}&region=us-east-1", stack)


async def _ackpt(url: str, stack: AsyncExitStack) -> Send:
    from functools import partial

    from ackpt.checkpoint.staged import StagedFile
    from ackpt.engine.store import Store
    from ackpt.transfer.fan_out import fan_out
    from ackpt.transfer.upload import upload_object

    store = Store(url)
    stack.push_async_callback(store.aclose)

    async def send(files: Sequence[Path]) -> None:
        transfer = store.transfer()
        staged = [StagedFile(key=file.name, path=file, size=file.stat().st_size) for file in files]
        sent = await fan_out(
            [partial(upload_object, store.backend, each, transfer) for each in staged], limit=64
        )
        assert all(info.crc32c is not None for info in sent)

    return send


async def obstore_gs(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with obstore's coroutines."""
    return _obstore_async(obstore_gs_store(endpoint))


async def obstore_gs_sync(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with obstore's blocking calls, one object after another."""
    return _obstore_sync(obstore_gs_store(endpoint))


async def obstore_s3(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with obstore's coroutines."""
    return _obstore_async(_obstore_s3(endpoint))


async def obstore_s3_sync(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with obstore's blocking calls, one object after another."""
    return _obstore_sync(_obstore_s3(endpoint))


def obstore_gs_store(endpoint: str) -> Any:
    from obstore.store import GCSStore

    return GCSStore(
        BUCKET,
        config={"base_url": endpoint},
        client_options={"allow_http": True},
        credential_provider=lambda: {"token": "none", "expires_at": None},
    )


def _obstore_s3(endpoint: str) -> Any:
    from obstore.store import S3Store

    return S3Store(
        BUCKET,
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="key",
        secret_access_key="secret",
        unsigned_payload=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def _obstore_async(store: Any) -> Send:
    import obstore

    async def send(files: Sequence[Path]) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(file: Path) -> None:
            async with room:
                await obstore.put_async(store, file.name, file)

        await asyncio.gather(*map(one, files))

    return send


def _obstore_sync(store: Any) -> Send:
    import obstore

    async def send(files: Sequence[Path]) -> None:
        for file in files:
            obstore.put(store, file.name, file)

    return send


async def google_single(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with google-cloud-storage, one stream."""
    bucket = google_bucket(endpoint)

    async def send(files: Sequence[Path]) -> None:
        for file in files:
            bucket.blob(file.name).upload_from_filename(str(file))

    return send


async def google_manager(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with google-cloud-storage's transfer manager, in threads."""
    from google.cloud.storage import transfer_manager

    bucket = google_bucket(endpoint)

    async def send(files: Sequence[Path]) -> None:
        if len(files) > AT_ONCE:
            results = transfer_manager.upload_many(
                [(str(file), bucket.blob(file.name)) for file in files],
                worker_type=transfer_manager.THREAD,
                max_workers=AT_ONCE,
                raise_exception=True,
            )
            assert len(results) == len(files)
            return
        for file in files:
            transfer_manager.upload_chunks_concurrently(
                str(file),
                bucket.blob(file.name),
                worker_type=transfer_manager.THREAD,
                max_workers=AT_ONCE,
                # The server cannot tell the checksum of a part that was not declared.
                checksum=None,
            )

    return send


def google_bucket(endpoint: str) -> Any:
    """Open the bucket with google-cloud-storage."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage
    from requests.adapters import HTTPAdapter

    client = storage.Client(
        project="bench",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": endpoint},
    )
    client._http.mount(endpoint, HTTPAdapter(pool_connections=AT_ONCE, pool_maxsize=AT_ONCE))
    return client.bucket(BUCKET)


async def gcsfs(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with gcsfs's coroutines."""
    from gcsfs import GCSFileSystem

    system = GCSFileSystem(
        token="anon",
        endpoint_url=endpoint,
        asynchronous=True,
        skip_instance_cache=True,
        session_kwargs=_trust(),
    )
    session = await system._set_session()
    stack.push_async_callback(session.close)

    async def send(files: Sequence[Path]) -> None:
        await _each(files, lambda file: system._put_file(str(file), f"{BUCKET}/{file.name}"))

    return send


def _trust() -> dict[str, Any]:
    import aiohttp

    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    return {"connector": aiohttp.TCPConnector(ssl=context)}


async def s3fs(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with s3fs's coroutines."""
    from s3fs import S3FileSystem

    system = S3FileSystem(
        key="key",
        secret="secret",
        endpoint_url=endpoint,
        asynchronous=True,
        skip_instance_cache=True,
        client_kwargs={"region_name": "us-east-1"},
        config_kwargs={"s3": {"addressing_style": "path"}, "max_pool_connections": AT_ONCE},
    )
    session = await system.set_session()
    stack.push_async_callback(session.close)

    async def send(files: Sequence[Path]) -> None:
        await _each(files, lambda file: system._put_file(str(file), f"{BUCKET}/{file.name}"))

    return send


async def _each(files: Sequence[Path], send: Callable[[Path], Awaitable[Any]]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(file: Path) -> None:
        async with room:
            await send(file)

    await asyncio.gather(*map(one, files))


async def boto3(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with boto3 as it is."""
    return _boto3(endpoint)


async def boto3_bare(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with boto3, with neither a checksum nor a hash of the payload."""
    return _boto3(
        endpoint,
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path", "payload_signing_enabled": False},
    )


def _boto3(endpoint: str, **settings: Any) -> Send:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(max_pool_connections=AT_ONCE, **{"s3": {"addressing_style": "path"}, **settings}),
    )
    config = TransferConfig(max_concurrency=AT_ONCE)

    async def send(files: Sequence[Path]) -> None:
        if len(files) <= AT_ONCE:
            for file in files:
                client.upload_file(str(file), BUCKET, file.name, Config=config)
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda file: client.upload_file(str(file), BUCKET, file.name), files))

    return send


async def awscrt(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with awscrt's S3 client, which reads the files itself."""
    from awscrt import auth, http, io, s3

    credentials = auth.AwsCredentialsProvider.new_static("key", "secret")
    plain = endpoint.startswith("http:")
    host = endpoint.partition("://")[2]
    tls = None
    if not plain:
        context = io.TlsContextOptions()
        context.override_default_trust_store_from_path(None, os.environ["SSL_CERT_FILE"])
        tls = io.ClientTlsContext(context).new_connection_options()
    client = s3.S3Client(
        region="us-east-1",
        credential_provider=credentials,
        tls_mode=s3.S3RequestTlsMode.DISABLED if plain else s3.S3RequestTlsMode.ENABLED,
        tls_connection_options=tls,
        part_size=PART_MIB * 2**20,
    )

    async def send(files: Sequence[Path]) -> None:
        waiting = []
        for file in files:
            headers = http.HttpHeaders(
                [
                    ("host", host),
                    ("content-length", str(file.stat().st_size)),
                    ("content-type", "application/octet-stream"),
                ]
            )
            waiting.append(
                client.make_request(
                    type=s3.S3RequestType.PUT_OBJECT,
                    request=http.HttpRequest("PUT", f"/{BUCKET}/{file.name}", headers),
                    send_filepath=str(file),
                ).finished_future
            )
        for each in waiting:
            each.result(120)

    return send


async def tensorflow_gs(endpoint: str, stack: AsyncExitStack) -> Send:
    """Send with TensorFlow's own filesystem for `gs://`."""
    os.environ["CLOUD_STORAGE_EMULATOR_ENDPOINT"] = endpoint
    os.environ["TF_USE_MODULAR_FILESYSTEM"] = "1"
    import tensorflow as tf

    async def send(files: Sequence[Path]) -> None:
        for file in files:
            tf.io.gfile.copy(str(file), f"gs://{BUCKET}/{file.name}", overwrite=True)

    return send


WAYS: dict[str, dict[str, tuple[Way, str]]] = {
    "gs": {
        "ackpt": (ackpt_gs, "ackpt"),
        "obstore": (obstore_gs, "obstore"),
        "obstore, blocking": (obstore_gs_sync, "obstore"),
        "google-cloud-storage": (google_single, "google.cloud.storage"),
        "google-cloud-storage, transfer manager": (google_manager, "google.cloud.storage"),
        "gcsfs": (gcsfs, "gcsfs"),
        "TensorFlow": (tensorflow_gs, "tensorflow-gs"),
    },
    "s3": {
        "ackpt": (ackpt_s3, "ackpt"),
        "obstore": (obstore_s3, "obstore"),
        "obstore, blocking": (obstore_s3_sync, "obstore"),
        "boto3": (boto3, "boto3"),
        "boto3, no checksums": (boto3_bare, "boto3"),
        "s3fs": (s3fs, "s3fs"),
        "awscrt": (awscrt, "awscrt"),
    },
}
"""By protocol, by the name of the client: how it uploads, and what has to be installed for it."""
