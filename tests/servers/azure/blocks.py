"""Blocks: staged under a blob's name, listed, and joined."""

from __future__ import annotations

import base64
import binascii
from xml.etree import ElementTree as ET

from aiohttp import web

from tests.servers.azure.blobs import CRC64, check_write, checked, described, document, made, source
from tests.servers.azure.calls import Call
from tests.servers.azure.problems import Problem, blob_not_found
from tests.servers.azure.records import Features

_MAX_ID_BYTES = 64
_MAX_BLOCKS = 50_000


class Blocks:
    """Answer the requests about blocks."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def put(self, call: Call) -> web.Response:
        """https://learn.microsoft.com/rest/api/storageservices/put-block"""
        if not call.data:
            raise Problem(
                400,
                "InvalidHeaderValue",
                "The value for one of the HTTP headers is not in the correct format.",
            )
        told = checked(call, self._features)
        self._stage(call, call.data)
        return web.Response(status=201, headers=told)

    def copy(self, call: Call) -> web.Response:
        """https://learn.microsoft.com/rest/api/storageservices/put-block-from-url"""
        data = source(call).data
        span = call.range("x-ms-source-range", len(data))
        self._stage(call, data if span is None else data[span[0] : span[1]])
        return web.Response(status=201)

    def list(self, call: Call) -> web.Response:
        """https://learn.microsoft.com/rest/api/storageservices/get-block-list"""
        if call.query.get("blocklisttype") != "uncommitted":
            raise Problem(
                400, "InvalidQueryParameterValue", "this test server lists uncommitted blocks alone"
            )
        blocks = call.container.blocks.get(call.name)
        if blocks is None and call.there is None:
            raise blob_not_found()
        root = ET.Element("BlockList")
        listed = ET.SubElement(root, "UncommittedBlocks")
        for each, data in (blocks or {}).items():
            block = ET.SubElement(listed, "Block")
            ET.SubElement(block, "Name").text = each
            ET.SubElement(block, "Size").text = str(len(data))
        return document(root)

    def join(self, call: Call) -> web.Response:
        """Make a blob of blocks; all others that were staged under its name go.

        https://learn.microsoft.com/rest/api/storageservices/put-block-list
        """
        if CRC64 in call.headers:
            checked(call, self._features)
        check_write(call)
        staged = call.container.blocks.get(call.name, {})
        named = [element.text or "" for element in ET.fromstring(call.data)]
        if len(named) > _MAX_BLOCKS:
            raise Problem(409, "BlockCountExceedsLimit", "The committed block count cannot exceed 50000.")
        if any(each not in staged for each in named):
            raise Problem(400, "InvalidBlockList", "The specified block list is invalid.")
        blob = made(call, b"".join(staged[each] for each in named))
        call.container.commit(call.name, blob)
        return web.Response(status=201, headers=described(blob))

    def _stage(self, call: Call, data: bytes) -> None:
        given = call.query["blockid"]
        try:
            raw = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not 0 < len(raw) <= _MAX_ID_BYTES:
            raise Problem(
                400, "InvalidQueryParameterValue", "Value for one of the query parameters is invalid."
            )
        there = call.there
        if there is not None and there.kind != "BlockBlob":
            raise Problem(409, "InvalidBlobType", "The blob type is invalid for this operation.")
        blocks = call.container.blocks.setdefault(call.name, {})
        # "… a block ID of a different length than the block IDs for any existing uncommitted blocks …"
        if any(len(each) != len(given) for each in blocks):
            raise Problem(400, "InvalidBlobOrBlock", "The specified blob or block content is invalid.")
        blocks[given] = data
