"""Manifests, claims and prefixes for tests of the checkpoint room: fixed ones, and hypothesis strategies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

from hypothesis import strategies as st

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.manifest import Manifest, ManifestObject

CLAIM = Claim(run="r1", attempt=1, writer="w1", time="2026-01-01T00:00:00+00:00")

_PLAIN = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["Cc", "Cs"]),
    min_size=1,
    max_size=12,
)
names = _PLAIN.filter(lambda n: n[0] not in ".-")
segments = _PLAIN.filter(lambda s: s not in (".", ".."))
steps = st.integers(min_value=0, max_value=10**12)
zones = st.integers(min_value=-14 * 60, max_value=14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw a manifest that keeps every rule."""
    step = draw(steps)
    prefix = f"{draw(names)}-{step}"
    rests = draw(st.lists(st.tuples(st.sampled_from("./"), segments), min_size=1, max_size=5, unique=True))
    keys = sorted({f"{prefix}{mark}{rest}" for mark, rest in rests})
    return Manifest(
        step=step,
        prefix=prefix,
        created=draw(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=zones)),
        run=draw(st.text(st.characters(codec="utf-8"), max_size=8)),
        attempt=draw(st.integers(1, 10**6)),
        writer=draw(st.text(st.characters(codec="utf-8"), max_size=8)),
        metrics=MappingProxyType(
            draw(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3))
        ),
        objects=tuple(
            ManifestObject(
                key=key,
                size=draw(st.integers(0, 2**50)),
                crc32c=draw(st.integers(0, 2**32 - 1)),
                version=draw(st.text(st.characters(codec="utf-8"), max_size=8)),
            )
            for key in keys
        ),
    )


def manifest(step: int = 5, *, name: str = "model.ckpt", created: datetime | None = None) -> Manifest:
    """Make a manifest of a TensorFlow checkpoint with two objects."""
    prefix = f"{name}-{step}"
    return Manifest(
        step=step,
        prefix=prefix,
        created=created or datetime(2026, 1, 1, tzinfo=UTC),
        run=CLAIM.run,
        attempt=CLAIM.attempt,
        writer=CLAIM.writer,
        objects=tuple(
            ManifestObject(key=f"{prefix}.{suffix}", size=3, crc32c=0x1234, version="1")
            for suffix in ("data-00000-of-00001", "index")
        ),
    )
