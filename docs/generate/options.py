"""The page of the URL options: from the running code, which alone knows defaults and limits."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points

from ackpt.backends.registry import GROUP, known_schemes
from ackpt.options import DataclassInstance, TransferOptions
from docs.generate.markdown import NOTE, join, sentences, table

_OPTIONS_OF = {
    "az": "ackpt.backends.az.options:AzOptions",
    "file": "ackpt.backends.file:FileOptions",
    "fsspec+": "ackpt.backends.fsspec.options:FsspecOptions",
    "gs": "ackpt.backends.gs.options:GSOptions",
    "memory": "ackpt.backends.memory:MemoryOptions",
    "s3": "ackpt.backends.s3.options:S3Options",
}


def page() -> str:
    """Describe the URL options of every scheme.

    Raises:
        LookupError: a scheme is built in, and it is not said here where its options are.
    """
    plug_ins = {point.name for point in entry_points(group=GROUP)}
    schemes = [scheme for scheme in known_schemes() if scheme not in plug_ins]
    if missing := set(schemes) - set(_OPTIONS_OF):
        raise LookupError(f"docs/generate/options.py does not say where the options are of {missing}")
    parts = [
        "# URL options",
        NOTE,
        "An option is written into the URL's query: `gs://bucket/run?part_size=64MiB&concurrency=16`.\n"
        "An unknown option, or a value out of range, is an `InvalidOptionError` before anything is sent, "
        "and its message lists the valid ones.\n"
        f"Schemes that are built in: {', '.join(f'`{_written(scheme)}`' for scheme in schemes)}; "
        "a plain path is a `file://` URL.",
        "## Every URL",
        *_options(TransferOptions),
    ]
    for scheme in schemes:
        module, _, name = _OPTIONS_OF[scheme].partition(":")
        parts += [f"## {_written(scheme)}", *_options(getattr(importlib.import_module(module), name))]
    return join(parts)


def _written(scheme: str) -> str:
    """Write a scheme as a URL begins; one that ends in a plus stands for a family."""
    return f"{scheme}…://" if scheme.endswith("+") else f"{scheme}://"


def _options(kind: type[DataclassInstance]) -> Iterator[str]:
    fields = [field for field in dataclasses.fields(kind) if "option" in field.metadata]
    if not fields:
        yield "No options of its own."
        return
    rows = [(f"`{f.metadata['option']}`", _expected(f.metadata["parse"]), _default(f)) for f in fields]
    yield table(("option", "value", "default"), rows)
    said = inspect.getdoc(kind) or ""
    for field in fields:
        said = said.replace(f"`{field.name}`", f"`{field.metadata['option']}`")
    yield sentences(said.partition("\n\n")[2])


def _expected(parse: Callable[[str], object]) -> str:
    """Return what a reader says it takes, by giving it what it cannot take."""
    for nonsense in ("", "\0"):
        try:
            parse(nonsense)
        except ValueError as error:
            return str(error)
    return "text"


def _default(field: dataclasses.Field[object]) -> str:
    value = field.default
    expected = _expected(field.metadata["parse"])
    if value is None:
        return "-"
    if isinstance(value, int) and "a size" in expected and value % (1 << 20) == 0:
        return f"{value >> 20}MiB"
    if isinstance(value, float) and "a duration" in expected:
        return f"{value:g}s"
    return str(value)
