"""Metrics: whatever is a figure is kept, and anything else refused when it comes."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from ackpt import Checkpointer
from ackpt.checkpoint.catalog import list_entries, load_manifest
from ackpt.checkpoint.metrics import read_metrics, to_json
from ackpt.errors import InvalidOptionError
from tests.engine.runs import Pinned, Run


def test_whatever_is_a_figure_is_one() -> None:
    given = {
        "a": 1,
        "b": np.float32(0.5),
        "c": np.int64(3),
        "d": np.array(2.0),
        "e": Fraction(1, 4),
        "f": True,
    }
    assert dict(read_metrics(given)) == {"a": 1.0, "b": 0.5, "c": 3.0, "d": 2.0, "e": 0.25, "f": 1.0}
    assert dict(read_metrics(None)) == {}


@pytest.mark.parametrize("value", ["low", "1.0", b"1", None, 10**400, [1.0], np.zeros(2)])
def test_what_is_no_figure_is_refused(value: object) -> None:
    with pytest.raises(InvalidOptionError, match="expected a figure for 'loss'"):
        read_metrics({"loss": value})


def test_a_name_is_text() -> None:
    with pytest.raises(InvalidOptionError, match="names as text, got 3"):
        read_metrics({3: 1.0})  # type: ignore[dict-item]


async def test_every_figure_comes_back_from_the_store() -> None:
    run, figures = Run(), {"loss": math.nan, "best": math.inf, "worst": -math.inf, "step": 1e300}
    assert json.dumps(to_json(figures), allow_nan=False)
    async with Checkpointer(run.url) as checkpointer:
        with pytest.raises(InvalidOptionError):
            await checkpointer.submit(Pinned(1), metrics={"loss": "low"})  # type: ignore[dict-item]
        await (await checkpointer.submit(Pinned(2), metrics=figures))
    (entry,) = await list_entries(run.store)
    found = (await load_manifest(run.store, entry)).metrics
    assert {name: str(value) for name, value in found.items()} == {n: str(v) for n, v in figures.items()}
