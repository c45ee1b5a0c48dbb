"""The tally of failures: what the trainer feels, when, and that the last failure is never silent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.engine.failure import FailurePolicy, FailureTally, Raise, Tolerate
from ackpt.errors import FencedError, InvalidOptionError, SaveFailedError, StorageError
from ackpt.events import Committed, Failed, Outcome, Parked, Skipped, Superseded

AT = {"step": 7, "target": "gs://b/run"}


def failed(error: Exception | None = None, *, staged: bool = False) -> Failed:
    return Failed(step=7, target="gs://b/run", error=error or StorageError("no"), staged=staged)


COMMITTED = Committed(
    step=7, target="gs://b/run", prefix="ckpt-7", size=1, stall_secs=0, stage_secs=0, upload_secs=0
)
NEUTRAL: list[Outcome] = [
    Superseded(step=7, target="t", by_step=8),
    Skipped(step=7, target="t", busy_step=6),
    Parked(step=7, target="t", folder="f"),
]
outcomes = st.sampled_from([failed(), COMMITTED, *NEUTRAL])
policies: st.SearchStrategy[FailurePolicy] = st.builds(Tolerate, st.integers(0, 3)) | st.just(Raise())


def tally(policy: FailurePolicy, *seen: Outcome) -> FailureTally:
    result = FailureTally(policy)
    for outcome in seen:
        result = result.after(outcome)
    return result


@given(policies, st.lists(outcomes, max_size=12))
def test_an_error_is_due_after_so_many_failures_since_the_last_commit(
    policy: FailurePolicy, seen: list[Outcome]
) -> None:
    since = seen[max((i for i, o in enumerate(seen) if o is COMMITTED), default=-1) + 1 :]
    failures = sum(isinstance(o, Failed) for o in since)
    result = tally(policy, *seen)
    assert result.consecutive == failures
    tolerated = policy.count if isinstance(policy, Tolerate) else 0
    assert (result.due() is not None) == (failures > tolerated)
    assert (result.final() is not None) == (failures > 0)


def test_tolerate_raises_at_the_failure_after_those_it_tolerates() -> None:
    assert tally(Tolerate(2), failed(), failed()).due() is None
    assert isinstance(tally(Tolerate(2), failed(), failed(), failed()).due(), SaveFailedError)
    assert isinstance(tally(Tolerate(0), failed()).due(), SaveFailedError)
    assert isinstance(tally(Raise(), failed()).due(), SaveFailedError)


def test_a_lost_run_is_never_tolerated() -> None:
    assert isinstance(tally(Tolerate(9), failed(FencedError("taken over"))).due(), SaveFailedError)


def test_the_error_names_the_step_the_target_the_cause_and_what_is_kept() -> None:
    cause = StorageError("disk on fire")
    error = tally(Tolerate(9), failed(), failed(cause, staged=True)).final()
    assert error is not None
    assert error.__cause__ is cause
    assert error.step == 7
    assert str(error) == (
        "saving step 7 to gs://b/run failed (2 saves in a row have failed): disk on fire; "
        "it lies staged and the next start goes on with it"
    )
    once = tally(Raise(), failed(cause)).final()
    assert str(once) == "saving step 7 to gs://b/run failed: disk on fire"


def test_a_negative_number_of_failures_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="Tolerate: expected a whole number from 0 up"):
        Tolerate(-1)
