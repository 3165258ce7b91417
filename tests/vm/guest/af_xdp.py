"""An AF_XDP socket: as much of one as loses packets."""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import struct
import time

from exporting import PATIENCE

AF_XDP, SOL_XDP = 44, 283
MMAP_OFFSETS, RX_RING, UMEM_REG, FILL_RING, COMPLETION_RING, STATISTICS = 1, 2, 4, 5, 6, 7
COPY = 2
FILL_RING_OFFSET = 0x100000000
CHUNK, CHUNKS = 4096, 16
LIBC = ctypes.CDLL(None, use_errno=True)


class XdpSocket:
    """Bound to queue 0 of a device, with a ring for so many received packets; its packets are copied."""

    def __init__(self, device: str, received: int) -> None:
        self.socket = socket.socket(AF_XDP, socket.SOCK_RAW)
        self.memory = mmap.mmap(-1, CHUNK * CHUNKS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._set(UMEM_REG, struct.pack("<QQIIIxxxx", address, len(self.memory), CHUNK, 0, 0))
        for ring, entries in ((FILL_RING, CHUNKS), (COMPLETION_RING, CHUNKS), (RX_RING, received)):
            self._set(ring, struct.pack("<I", entries))
        offsets = struct.unpack("<16Q", self.socket.getsockopt(SOL_XDP, MMAP_OFFSETS, 128))
        self.producer, self.descriptors = offsets[8], offsets[10]  # of the fill ring
        self.ring = mmap.mmap(self.socket.fileno(), self.descriptors + 8 * CHUNKS, offset=FILL_RING_OFFSET)
        bound = struct.pack("<HHIII", AF_XDP, COPY, socket.if_nametoindex(device), 0, 0)
        end = time.monotonic() + PATIENCE
        while LIBC.bind(self.socket.fileno(), bound, len(bound)):
            number = ctypes.get_errno()  # busy: the kernel lets go of the socket before only a while after it is closed
            if number != errno.EBUSY or time.monotonic() > end:
                raise OSError(number, "bind")
            time.sleep(0.1)

    def _set(self, option: int, value: bytes) -> None:
        self.socket.setsockopt(SOL_XDP, option, value)

    def give_memory(self, chunks: int) -> None:
        """Put places for so many packets into the fill ring."""
        struct.pack_into(f"<{chunks}Q", self.ring, self.descriptors, *(CHUNK * i for i in range(chunks)))
        struct.pack_into("<I", self.ring, self.producer, chunks)

    def lost(self) -> dict[str, int]:
        """Packets that the socket did not get, as the kernel counts them."""
        dropped, _, _, full = struct.unpack_from("<4Q", self.socket.getsockopt(SOL_XDP, STATISTICS, 48))
        return {"dropped": dropped, "rx_ring_full": full}

    def close(self) -> None:
        self.ring.close()
        self.socket.close()
