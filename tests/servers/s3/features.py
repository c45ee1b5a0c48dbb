"""What the server is able to do: all that Amazon does, unless a test takes something away."""

from __future__ import annotations

from dataclasses import dataclass

from tests.servers.s3.conditions import Conditions


@dataclass(slots=True, kw_only=True)
class Features:
    """Hold what a store that speaks the same API may lack.

    `checksums`: keeps CRC-32C. `refuses_checksums`: and answers 501 to them. `full_object`: keeps
    one of all bytes of an upload. `trailers`: knows the framing with a checksum behind.
    `ranges`: gives parts of objects. `page`: entries of a list. `bulk`: deletes many in one request.
    """

    conditions: Conditions = "heeded"
    checksums: bool = True
    refuses_checksums: bool = False
    full_object: bool = True
    trailers: bool = True
    ranges: bool = True
    page: int = 1000
    bulk: bool = True
