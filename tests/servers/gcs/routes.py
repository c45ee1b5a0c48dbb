"""Which request is which operation: from method, path and query alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Name an operation and what it is about; XML operations begin with `multipart.`."""

    operation: str
    bucket: str = ""
    name: str = ""
    to: str = ""
    to_bucket: str = ""


def route(method: str, segments: Sequence[str], query: Mapping[str, str]) -> Route:
    """Tell what is asked for; `unknown` or `multipart.unknown` where it is nothing we know.

    https://cloud.google.com/storage/docs/request-endpoints#typical
    """
    match segments:
        case ["storage", "v1", "b", *rest] | ["download", "storage", "v1", "b", *rest]:
            return _json(method, rest, query)
        case ["batch", "storage", "v1"] if method == "POST":
            return Route(operation="batch")
        case ["upload", "storage", "v1", "b", bucket, "o"]:
            return _upload(method, bucket, query)
        case [bucket, *names]:
            return _xml(method, bucket, "/".join(names), query)
    return Route(operation="unknown")


def _json(method: str, rest: Sequence[str], query: Mapping[str, str]) -> Route:
    match method, rest:
        case "POST", []:
            return Route(operation="buckets.insert")
        case "GET", [bucket]:
            return Route(operation="buckets.get", bucket=bucket)
        case "GET", [bucket, "o"]:
            return Route(operation="objects.list", bucket=bucket)
        case "GET", [bucket, "o", name]:
            media = query.get("alt") == "media"
            return Route(operation="objects.get_media" if media else "objects.get", bucket=bucket, name=name)
        case "POST", [bucket, "o", name, "moveTo", "o", to]:
            return Route(operation="objects.move", bucket=bucket, name=name, to=to)
        case "POST", [bucket, "o", name, "compose"]:
            return Route(operation="objects.compose", bucket=bucket, name=name)
        case "POST", [bucket, "o", name, "rewriteTo", "b", to_bucket, "o", to]:
            return Route(operation="objects.rewrite", bucket=bucket, name=name, to=to, to_bucket=to_bucket)
        case "DELETE", [bucket, "o", name]:
            return Route(operation="objects.delete", bucket=bucket, name=name)
    return Route(operation="unknown")


def _upload(method: str, bucket: str, query: Mapping[str, str]) -> Route:
    operations = {
        ("POST", "media"): "objects.insert_media",
        ("POST", "multipart"): "objects.insert",
        ("POST", "resumable"): "resumable.start",
        ("PUT", "resumable"): "resumable.put",
        ("DELETE", "resumable"): "resumable.cancel",
    }
    operation = operations.get((method, query.get("uploadType", "")), "unknown")
    return Route(operation=operation, bucket=bucket, name=query.get("name", ""))


def _xml(method: str, bucket: str, name: str, query: Mapping[str, str]) -> Route:
    """Know the requests of https://cloud.google.com/storage/docs/xml-api/reference-methods."""
    operation = "unknown"
    match method, bool(name), "uploads" in query, "uploadId" in query:
        case "POST", True, True, False:
            operation = "initiate"
        case "PUT", True, False, True if "partNumber" in query:
            operation = "put_part"
        case "GET", True, False, True:
            operation = "list_parts"
        case "POST", True, False, True:
            operation = "complete"
        case "DELETE", True, False, True:
            operation = "abort"
        case "GET", False, True, False:
            operation = "list"
    return Route(operation=f"multipart.{operation}", bucket=bucket, name=name)
