"""Pass frames on between two devices, late and not all: ``slow_wire.py ONE OTHER SECONDS LOSS``."""

from __future__ import annotations

import heapq
import random
import select
import socket
import sys
import time

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23


def device(name):
    """Return a socket on a device that takes and gives frames with what is left to be done to them.

    Frames inside a machine may be larger than any wire takes, and lack their checksums: the header
    that the kernel puts before them says so, and comes along.
    """
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    raw.bind((name, 0))
    raw.setblocking(False)
    return raw


def relay(one, other, seconds, loss):
    chance = random.Random(7)
    ends = {one: other, other: one}
    late = []
    number = 0
    while True:
        patience = max(0.0, late[0][0] - time.monotonic()) if late else 1.0
        for end in select.select(list(ends), [], [], patience)[0]:
            for _ in range(64):
                try:
                    frame = end.recv(1 << 17)
                except BlockingIOError:
                    break
                except OSError:
                    break
                if chance.random() >= loss:
                    number += 1
                    heapq.heappush(late, (time.monotonic() + seconds, number, ends[end], frame))
        while late and late[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(late)
            try:
                end.send(frame)
            except OSError:
                continue  # lost: wires do that


if __name__ == "__main__":
    relay(device(sys.argv[1]), device(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
