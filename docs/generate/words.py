"""The pages of the shared words: errors, events, policies."""

from __future__ import annotations

from docs.generate.markdown import NOTE, join, sentences
from docs.generate.source import bases, classes, docstring, fields

POLICIES = {
    "Overlap: what becomes of a save that comes while another is under way": (
        "ackpt/engine/overlap.py",
        ("Coalesce", "Queue", "Block", "Skip"),
        "`Coalesce()`",
    ),
    "Failure: when a failed save reaches the trainer": (
        "ackpt/engine/failure.py",
        ("Raise", "Tolerate"),
        "`Tolerate(3)`",
    ),
    "Retention: which committed checkpoints are kept": (
        "ackpt/checkpoint/retention.py",
        ("KeepAll", "KeepLast", "KeepEvery", "KeepInterval", "KeepBest"),
        "`KeepAll()`; the TensorFlow hook keeps what its saver says",
    ),
}


def errors_page() -> str:
    """Describe the errors as a tree."""
    nodes = classes("ackpt/errors.py")
    lines: list[str] = []

    def describe(name: str, depth: int) -> None:
        said = sentences(docstring(nodes[name])).replace("\n\n", "\n").replace("\n", f"\n{'  ' * depth}  ")
        lines.append(f"{'  ' * depth}- **`{name}`**: {said}")
        for other, node in nodes.items():
            if name in bases(node):
                describe(other, depth + 1)

    describe("AckptError", 0)
    return join(
        [
            "# Errors",
            NOTE,
            "All of them are in `ackpt.errors`.\n"
            "The class says what a caller can do; the text is for people.\n"
            "Only what is below `TransientError` is retried, by the core and by nobody else.",
            "\n".join(lines),
        ]
    )


def events_page() -> str:
    """Describe the events, with their fields."""
    parts = [
        "# Events",
        NOTE,
        "All of them are in `ackpt.events`.\n"
        "Every save request ends in exactly one of `Committed`, `Superseded`, `Skipped`, `Failed` and "
        "`Parked`.\n"
        "A `CheckpointListener` is told of `Staged`, `Committed`, `Failed` and `Deleted`; "
        "a function given to `subscribe` is told of all.",
    ]
    for name, node in classes("ackpt/events.py").items():
        inherited = "" if name == "Event" else ", and those of `Event`"
        listed = ", ".join(f"`{field}`" for field in fields(node))
        parts += [f"## {name}", sentences(docstring(node)), f"Fields: {listed}{inherited}."]
    return join(parts)


def policies_page() -> str:
    """Describe the policies."""
    parts = [
        "# Policies",
        NOTE,
        "All of them are names of `ackpt`: plain values, equal when they say the same.",
    ]
    for title, (path, names, default) in POLICIES.items():
        parts += [f"## {title}", f"Default: {default}."]
        nodes = classes(path)
        for name in names:
            heading = f"### {name}({', '.join(fields(nodes[name]))})"
            parts += [heading, sentences(docstring(nodes[name]))]
    return join(parts)
