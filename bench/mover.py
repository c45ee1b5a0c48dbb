"""The bare mover: a process that does nothing but send one file over one socket, as the bound of others.

    python -S bench/mover.py HOST PORT BUCKET FILE

Reads blocks into one buffer, computes nothing, and prints the bytes that the store has acknowledged.
"""

from __future__ import annotations

import json
import os
import socket
import sys

BLOCK_BYTES = 256 * 1024


def move(host: str, port: int, bucket: str, path: str) -> int:
    """Upload the file in one request; return the object's size as the store tells it."""
    size = os.stat(path).st_size
    name = os.path.basename(path)
    head = (
        f"POST /upload/storage/v1/b/{bucket}/o?uploadType=media&name={name} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Length: {size}\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
    )
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with socket.create_connection((host, port)) as connection, open(path, "rb", buffering=0) as file:
        connection.sendall(head.encode())
        while count := file.readinto(buffer):
            connection.sendall(buffer[:count])
        answer = b""
        while more := connection.recv(65536):
            answer += more
    headers, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in headers.split(b"\r\n", 1)[0]:
        raise OSError(f"the store refused: {headers!r}")
    return int(json.loads(body)["size"])


if __name__ == "__main__":
    print(move(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
