"""XML documents as S3's API, and those modelled on it, answer with; namespaces are left out of account."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from ackpt.backends.http.purpose import Purpose
from ackpt.errors import StorageError


def parse(body: bytes) -> ET.Element | None:
    """Read a document; None for what is none. White space may come before it, as a sign of life."""
    try:
        return ET.fromstring(body.lstrip())
    except ET.ParseError:
        return None


def tag(element: ET.Element) -> str:
    """Return an element's name."""
    return element.tag.rpartition("}")[2]


def children(element: ET.Element, name: str) -> list[ET.Element]:
    """Return the elements of that name, directly below."""
    return [child for child in element if tag(child) == name]


def text(element: ET.Element, name: str) -> str | None:
    """Return the text of the first element of that name; None where there is none."""
    found = children(element, name)
    return found[0].text if found else None


def required(element: ET.Element, name: str, purpose: Purpose) -> str:
    """Return the text of the first element of that name.

    Raises:
        StorageError: there is none.
    """
    found = text(element, name)
    if not found:
        raise StorageError(f"{purpose}: the answer has no {name}", key=purpose.key)
    return found


def error_fields(body: bytes) -> dict[str, str] | None:
    """Return what an `Error` document says, by the names of its elements; None for any other."""
    root = parse(body)
    if root is None or tag(root) != "Error":
        return None
    return {tag(child): child.text or "" for child in root}
