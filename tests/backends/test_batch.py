"""Several requests in one body, and the answers to them, as different servers write these."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ackpt.backends.http.batch import answers, batch
from ackpt.backends.http.message import Reply, Request
from ackpt.backends.http.purpose import Purpose

PURPOSE = Purpose(action="delete", bucket="bucket")
ONE = (
    "Content-Type: application/http\r\nContent-ID: response-0\r\n\r\nHTTP/1.1 204 No Content\r\nA: 1\r\n\r\n"
)
TWO = (
    "Content-ID: <response-1>\r\nContent-Type: application/http\r\n\r\n"
    'HTTP/1.1 404 Not Found\r\nretry-after: 7\r\nContent-Length: 18\r\n\r\n{"error": "--end"}'
)
WHOLE = f"--end\r\n{ONE}\r\n--end\r\n{TWO}\r\n--end--\r\n"


def reply(body: str, kind: str = "multipart/mixed; boundary=end") -> Reply:
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": kind}))
    return Reply(status=200, headers=headers, body=body.encode())


def test_each_request_is_a_part_with_its_number() -> None:
    url = URL("http://host:1/a/b%20c%0D%0A?x=%2F", encoded=True)
    plain = Request(method="DELETE", url=url, purpose=PURPOSE)
    signed = Request(method="DELETE", url=url, purpose=PURPOSE, headers={"authorization": "secret"})
    content = batch([plain, signed])
    boundary = content.kind.removeprefix("multipart/mixed; boundary=")
    part = (
        "--{0}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        "Content-ID: {1}\r\n\r\n"
        "DELETE /a/b%20c%0D%0A?x=%2F HTTP/1.1\r\n{2}\r\n\r\n"
    )
    expected = part.format(boundary, 0, "") + part.format(boundary, 1, "authorization: secret\r\n")
    assert content.data == f"{expected}--{boundary}--\r\n".encode()
    assert batch([plain]).kind != batch([plain]).kind


@pytest.mark.parametrize("body", [WHOLE, f"a word before\r\n{WHOLE}and behind", WHOLE.replace("\r\n", "\n")])
def test_each_answer_is_known_by_its_number(body: str) -> None:
    found = answers(reply(body))
    assert found is not None
    assert [(each.number, each.status) for each in found] == [(0, 204), (1, 404)]
    assert found[0].headers["a"] == "1"
    assert found[1].headers["Retry-After"] == "7"
    assert (found[0].body, found[1].body) == (b"", b'{"error": "--end"}')


def test_a_quoted_boundary_is_known() -> None:
    assert len(answers(reply(WHOLE, 'multipart/mixed; boundary="end"')) or []) == 2


@pytest.mark.parametrize("cut", [0.4, 0.9])
def test_of_an_answer_cut_short_only_whole_parts_count(cut: float) -> None:
    body = f"--end\r\n{ONE}\r\n--end\r\n{TWO}"
    found = answers(reply(body[: int(len(body) * cut)]))
    assert [each.number for each in found or []] == ([] if cut < 0.5 else [0])


def test_a_part_without_an_id_is_about_all_and_one_that_is_no_http_about_none() -> None:
    body = WHOLE.replace("Content-ID: response-0\r\n", "").replace("HTTP/1.1 404", "nonsense")
    assert [(each.number, each.status) for each in answers(reply(body)) or []] == [(None, 204)]


@pytest.mark.parametrize("kind", ["", "text/html", "multipart/mixed", "multipart/related; boundary=end"])
def test_what_is_no_batch_is_none(kind: str) -> None:
    assert answers(reply(WHOLE, kind)) is None
