"""The value of ``NEARBY_TOKEN_KEYS``, ``kid=BASE64[,kid=BASE64]``, changed one step of a rotation at a time. Pure.

Three steps, each in every gateway and API process before the next: the new key is added and verifies, it signs, the
old one is removed once the last token that it signed has expired. Skipping one logs people out.
"""

from __future__ import annotations

from collections.abc import Sequence

from nearby.errors import NearbyError
from nearby.settings import parse_keys, words


class RotationRefused(NearbyError):
    """A step that makes no sense, or would log people out. Nothing was changed."""


def kids(value: str) -> list[str]:
    """Return the names of the keys; the first signs.

    Raises:
        RotationRefused: the value is none that processes take. It is not quoted, since it holds keys.
    """
    try:
        return list(parse_keys(value).keys)
    except ValueError as error:
        raise RotationRefused("the keys are not kid=BASE64[,kid=BASE64] of 32 bytes or more each") from error


def added(value: str, kid: str, encoded_key: str) -> str:
    """Return ``value`` with one more key, which verifies and does not sign.

    Raises:
        RotationRefused: there is one of this name.
    """
    if kid in kids(value):
        raise RotationRefused(f"there is a key {kid} already")
    if not kid or not kid.isascii() or any(character in "=, " for character in kid):
        raise RotationRefused("a name of a key has no =, comma or space")
    return f"{value},{kid}={encoded_key}"


def signing(value: str, kid: str) -> str:
    """Return ``value`` with ``kid`` in front, so that it signs.

    Raises:
        RotationRefused: there is no such key.
    """
    _must_be_there(kid, kids(value))
    mine = [pair for pair in words(value) if _kid_of(pair) == kid]
    return ",".join([*mine, *(pair for pair in words(value) if _kid_of(pair) != kid)])


def removed(value: str, kid: str) -> str:
    """Return ``value`` without ``kid``: tokens that it signed are refused from then on.

    Raises:
        RotationRefused: there is no such key, or it is the one that signs.
    """
    present = kids(value)
    _must_be_there(kid, present)
    if present[0] == kid:
        raise RotationRefused(f"{kid} signs; let another key sign first")
    return ",".join(pair for pair in words(value) if _kid_of(pair) != kid)


def _must_be_there(kid: str, present: Sequence[str]) -> None:
    if kid not in present:
        raise RotationRefused(f"there is no key {kid}; there are {', '.join(present)}")


def _kid_of(pair: str) -> str:
    return pair.partition("=")[0]
