"""A security key without the hardware: an agent with one sk-ssh-ed25519 key, whose signatures OpenSSH takes."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KIND = b"sk-ssh-ed25519@openssh.com"
APPLICATION = b"ssh:"
TOUCHED = b"\x01"  # the flag that says that somebody was there


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class HardwareKey:
    """Listens on a socket in `folder` while entered; `public` is the line for authorized_keys."""

    def __init__(self, folder: Path) -> None:
        self._key = Ed25519PrivateKey.generate()
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._blob = _string(KIND) + _string(raw) + _string(APPLICATION)
        self.public = f"{KIND.decode()} {base64.b64encode(self._blob).decode()} token\n"
        self.socket = folder / "agent"
        self.signed = 0

    def __enter__(self) -> HardwareKey:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.socket))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: socket.socket) -> None:
        with wire, wire.makefile("rwb") as stream:
            while len(head := stream.read(4)) == 4:
                request = stream.read(struct.unpack(">I", head)[0])
                stream.write(_string(self._answer(request)))
                stream.flush()

    def _answer(self, request: bytes) -> bytes:
        if request[:1] == b"\x0b":  # which keys there are
            return b"\x0c" + struct.pack(">I", 1) + _string(self._blob) + _string(b"token")
        blob, rest = _cut(request[1:])
        data, _ = _cut(rest)
        if request[:1] != b"\x0d" or blob != self._blob:
            return b"\x05"
        self.signed += 1
        counter = struct.pack(">I", self.signed)
        message = hashlib.sha256(APPLICATION).digest() + TOUCHED + counter + hashlib.sha256(data).digest()
        signature = _string(KIND) + _string(self._key.sign(message)) + TOUCHED + counter
        return b"\x0e" + _string(signature)


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """The string in front, and what follows."""
    length = struct.unpack(">I", data[:4])[0]
    return data[4 : 4 + length], data[4 + length :]
