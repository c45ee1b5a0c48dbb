"""Lies about keys."""

from __future__ import annotations

import posixpath
import unicodedata
from urllib.parse import unquote

from ackpt.backends.memory import MemoryBackend

from .mutant import caught_by


class _RenamingMutant(MemoryBackend):
    def name_of(self, key: str) -> str:
        return super().name_of(self.rename(key))

    def rename(self, key: str) -> str:
        raise NotImplementedError


@caught_by("keys_that_look_alike_are_different_objects")
class KeysAreUnescaped(_RenamingMutant):
    def rename(self, key: str) -> str:
        return unquote(key)


@caught_by("keys_that_look_alike_are_different_objects")
class KeysAreCaseless(_RenamingMutant):
    def rename(self, key: str) -> str:
        return key.lower()


@caught_by("keys_that_look_alike_are_different_objects")
class KeysAreComposed(_RenamingMutant):
    def rename(self, key: str) -> str:
        return unicodedata.normalize("NFC", key)


@caught_by("odd_keys_are_kept_as_they_are")
class KeysAreStripped(_RenamingMutant):
    def rename(self, key: str) -> str:
        return key.strip()


@caught_by("keys_that_look_alike_are_different_objects")
class KeysEndAtTheQuery(_RenamingMutant):
    def rename(self, key: str) -> str:
        return key.partition("?")[0]


@caught_by("doubtful_keys_work_or_are_refused")
class KeysAreNormalised(_RenamingMutant):
    def rename(self, key: str) -> str:
        return posixpath.normpath(key).lstrip("/.")


@caught_by("doubtful_keys_are_never_another_object")
class DeletesAreNormalised(MemoryBackend):
    async def delete(self, key: str) -> None:
        await super().delete(posixpath.normpath(key).lstrip("/."))


@caught_by("long_keys_are_kept_as_they_are")
class KeysAreCut(_RenamingMutant):
    def rename(self, key: str) -> str:
        return key[:255]


@caught_by("the_empty_key_is_refused")
class TheEmptyKeyIsAKey(MemoryBackend):
    def name_of(self, key: str) -> str:
        return super().name_of(key) if key else self._base
