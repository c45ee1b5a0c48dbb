"""The fence: of several writers of one run only the latest may commit, move the state file or delete.

A writer claims the run when it starts, by a conditional write over the claim before; a trainer that
was thought dead finds a newer claim than its own and stops. The claim is checked right before each
commit; on a store whose conditions are not atomic (`SingleWriter`) two claims at the same moment
are not told apart.
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ackpt.backends.base import Backend, Condition, IfAbsent, IfVersion
from ackpt.checkpoint.catalog import read_object
from ackpt.errors import ConditionFailedError, CorruptCheckpointError, FencedError, NotFoundError
from ackpt.transfer.body import BytesBody

_log = logging.getLogger(__name__)

KEY = ".ackpt/writer.json"

_CLAIM_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Name one writer of a run: the run's identity, which attempt this is (from 1), and who."""

    run: str
    attempt: int
    writer: str
    time: str

    @classmethod
    def from_document(cls, document: dict[str, object]) -> Claim:
        """Read a claim from JSON's types.

        Raises:
            ValueError: something is missing or of another type.
        """
        run, attempt, writer, time = (document.get(n) for n in ("run", "attempt", "writer", "time"))
        if not (isinstance(run, str) and isinstance(writer, str) and isinstance(time, str)):
            raise ValueError("expected run, writer and time as text")
        if type(attempt) is not int or attempt < 1:
            raise ValueError(f"expected an attempt from 1 up, got {attempt!r}")
        return cls(run=run, attempt=attempt, writer=writer, time=time)

    def to_document(self) -> dict[str, object]:
        """Write the claim in JSON's types."""
        return asdict(self)


async def read_claim(backend: Backend) -> Claim | None:
    """Return who holds the run, None where nobody ever did.

    Raises:
        CorruptCheckpointError: the claim cannot be read as one.
    """
    try:
        data = await read_object(backend, KEY)
    except NotFoundError:
        return None
    try:
        return Claim.from_document(json.loads(data))
    except (ValueError, AttributeError, RecursionError) as error:
        raise CorruptCheckpointError(
            f"{KEY} does not say who writes this run ({error}); make sure that no other trainer is running, "
            "then delete it"
        ) from error


async def claim_run(backend: Backend, *, writer: str) -> Claim:
    """Take the run over from whoever held it, and return the claim.

    Raises:
        ConditionFailedError: other writers claimed it again and again.
        CorruptCheckpointError: the claim before cannot be read.
    """
    for _ in range(_CLAIM_ATTEMPTS):
        condition = await _condition(backend)
        earlier = await read_claim(backend)
        claim = Claim(
            run=earlier.run if earlier else uuid.uuid4().hex,
            attempt=earlier.attempt + 1 if earlier else 1,
            writer=writer,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            await backend.put(KEY, BytesBody(json.dumps(claim.to_document()).encode()), condition=condition)
        except ConditionFailedError:
            continue
        return claim
    raise ConditionFailedError(
        f"{KEY} was claimed by other writers {_CLAIM_ATTEMPTS} times in a row; "
        "a run takes one writer at a time",
        key=KEY,
    )


async def _condition(backend: Backend) -> Condition:
    try:
        return IfVersion((await backend.head(KEY)).version)
    except NotFoundError:
        return IfAbsent()


async def check_claim(backend: Backend, claim: Claim) -> None:
    """Make sure that `claim` still holds; one that somebody has deleted is put there again.

    Raises:
        FencedError: a newer writer has taken the run over.
    """
    there = await read_claim(backend)
    if there is None:
        _log.warning("%s, which says who writes this run, was gone; it is written again", KEY)
        document = BytesBody(json.dumps(claim.to_document()).encode())
        try:
            await backend.put(KEY, document, condition=IfAbsent())
        except ConditionFailedError:
            there = await read_claim(backend)
        else:
            return
    if there != claim:
        by = f" by attempt {there.attempt}, since {there.time}" if there else ""
        raise FencedError(
            f"this writer (attempt {claim.attempt}, since {claim.time}) no longer holds the run: it was "
            f"taken over{by}; it commits and deletes nothing more: stop this process"
        )
