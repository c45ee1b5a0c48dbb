"""Answers that are XML documents, and errors that come with status 200."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from ackpt.backends.http import xml
from ackpt.backends.http.message import Reply
from ackpt.backends.http.purpose import Purpose
from ackpt.backends.s3.errors import read_refusal, translate
from ackpt.errors import TransientError, UnsupportedError


def expected(reply: Reply, tag: str, purpose: Purpose) -> ET.Element:
    """Return the document, which must be a `tag`.

    A store that works for long begins its answer with status 200, sends white space meanwhile, and
    may end with an error
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).

    Raises:
        StorageError: the document is an error; the subclass says which.
        TransientError: the answer ended before the document.
        UnsupportedError: it is another document, or none.
    """
    if not reply.body.strip():
        raise TransientError(f"{purpose}: the answer ended before it said how it went", key=purpose.key)
    root = xml.parse(reply.body)
    if root is not None and xml.tag(root) == tag:
        return root
    if root is not None and xml.tag(root) == "Error":
        raise translate(purpose, read_refusal(reply.status, reply.headers, reply.body))
    raise UnsupportedError(
        f"{purpose}: expected a {tag}, got {reply.body[:80]!r}; does the endpoint speak S3's API?",
        key=purpose.key,
    )
