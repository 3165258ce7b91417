"""Passwords against bcrypt hashes, by the C library's own libcrypt; by the package bcrypt where that cannot do it."""

from __future__ import annotations

import ctypes as ct
import re
import threading
from collections.abc import Callable
from functools import cache

HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
_SCRATCH = 32768  # struct crypt_data of libxcrypt
_LONGEST = 72  # bytes of a password that bcrypt looks at
_MOST_REMEMBERED = 100
# Of no password that anybody has: an unknown user takes as long as a known one.
_NOBODY = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
_PROBE = "$2y$04$abcdefghijklmnopqrstuu"

Hasher = Callable[[bytes, str], str]
"""(password, hash whose salt and cost are taken) → hash; empty if that cannot be."""


def _by_libcrypt(name: str) -> Hasher:
    """`OSError` or `AttributeError` where the library is not there or is no libxcrypt."""
    function = ct.CDLL(name).crypt_rn
    function.restype = ct.c_char_p
    function.argtypes = [ct.c_char_p, ct.c_char_p, ct.c_void_p, ct.c_int]

    def hashed(password: bytes, wanted: str) -> str:
        scratch = ct.create_string_buffer(_SCRATCH)
        return (function(password, wanted.encode(), scratch, _SCRATCH) or b"").decode()

    return hashed


def _by_package() -> Hasher:
    import bcrypt

    def hashed(password: bytes, wanted: str) -> str:
        return bytes(bcrypt.hashpw(password, wanted.encode())).decode()

    return hashed


@cache
def hasher() -> Hasher | None:
    """What computes bcrypt here; None if nothing does."""
    for name in _LIBRARIES:
        try:
            found = _by_libcrypt(name)
        except (OSError, AttributeError):
            continue
        if found(b"x", _PROBE).startswith(_PROBE[:28]):
            return found
    try:
        return _by_package()
    except ImportError:
        return None


class Passwords:
    """Who may come in. One hash is computed at a time, so that guessing keeps one processor busy at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._right: dict[bytes, None] = {}

    def right(self, users: dict[str, str], user: str, password: str) -> bool:
        """Whether this is the user's password. Right ones are remembered, as digests, for the scrapes that follow."""
        import hashlib  # an exporter without passwords starts without them
        import hmac

        wanted = users.get(user, _NOBODY)
        raw = password.encode(errors="surrogateescape")
        named = f"{user}\0{wanted}\0".encode(errors="surrogateescape")
        key = hashlib.sha256(named + raw).digest()
        if user in users and key in self._right:
            return True
        compute = hasher()
        if compute is None or b"\0" in raw:
            return False
        with self._lock:
            same = hmac.compare_digest(compute(raw[:_LONGEST], wanted), wanted)
            if not (same and user in users):
                return False
            if len(self._right) >= _MOST_REMEMBERED:
                self._right.clear()
            self._right[key] = None
        return True
