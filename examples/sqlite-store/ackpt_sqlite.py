"""Checkpoints in SQLite: `sqlite://models/run-7?folder=/data` is the run `run-7` in `/data/models.db`."""

import sqlite3
from asyncio import to_thread
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from crc32c import crc32c

from ackpt.backends import Backend, Body, Condition, ObjectInfo, check_condition
from ackpt.errors import NotFoundError, StorageError, TransientError
from ackpt.options import option, read_options
from ackpt.url import StorageURL

TABLE = """CREATE TABLE IF NOT EXISTS objects (version INTEGER PRIMARY KEY AUTOINCREMENT, run,
    key CHECK (key <> ''), crc, time DEFAULT CURRENT_TIMESTAMP, data, UNIQUE (run, key))"""
INFO = "key, version, crc, time, length(data)"
HERE = "FROM objects WHERE run = :run AND key = :key"


@dataclass(frozen=True)
class SQLiteOptions:
    folder: str = option("folder", str, ".")


class SQLiteBackend(Backend):
    def __init__(self, path: str, run: str) -> None:
        self.path, self.run = path, run

    @classmethod
    def from_url(cls, url: StorageURL) -> "SQLiteBackend":
        options = read_options(SQLiteOptions, url.options, where=str(url))
        return cls(f"{options.folder}/{url.bucket}.db", url.path)

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        data = await body.read()
        sql = f"REPLACE INTO objects (run, key, crc, data) VALUES (:run, :key, :crc, :data) RETURNING {INFO}"
        return describe(*await to_thread(self.one, sql, key, condition, crc=crc32c(data), data=data))

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        sql = f"SELECT substr(data, :start + 1, max(0, ifnull(:stop, length(data)) - :start)) {HERE}"
        yield (await to_thread(self.one, sql, key, start=start, stop=stop))[0] or b""

    async def head(self, key: str) -> ObjectInfo:
        return describe(*await to_thread(self.one, f"SELECT {INFO} {HERE}", key))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        for row in await to_thread(self.all, f"SELECT {INFO} FROM objects WHERE run = :run", prefix):
            if row[0].startswith(prefix):
                yield describe(*row)

    async def delete(self, key: str) -> None:
        await to_thread(self.all, f"DELETE {HERE}", key)

    def one(self, sql: str, key: str, condition: Condition | None = None, **values: object) -> tuple:
        for row in self.all(sql, key, condition, **values):
            return row
        raise NotFoundError(f"{key}: there is no such object in {self.path}", key=key)

    def all(self, sql: str, key: str, condition: Condition | None = None, **values: object) -> tuple:
        values |= {"run": self.run, "key": key}
        try:
            with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as db, db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(TABLE)
                there = [str(version) for (version,) in db.execute(f"SELECT version {HERE}", values)]
                check_condition(condition, key, *there)
                return tuple(db.execute(sql, values))
        except sqlite3.Error as error:
            kind = TransientError if error.sqlite_errorcode == sqlite3.SQLITE_BUSY else StorageError
            raise kind(f"{key} in {self.path}: {error}", key=key) from error


def describe(key: str, version: int, crc: int, time: str, size: int) -> ObjectInfo:
    modified = datetime.fromisoformat(f"{time}Z")
    return ObjectInfo(key=key, size=size, version=str(version), crc32c=crc, modified=modified)
