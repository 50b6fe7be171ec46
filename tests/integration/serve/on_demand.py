"""Run by test_on_demand.py: many clients that come and go while the engine leaves whenever it is idle.

python on_demand.py SOCKET ROUNDS ARGUMENT...    prints the process ids of the engines that answered, one line each
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time

import sampan


def peer(path: str) -> int:
    """The process that accepts at a socket; 0 when it left right after its answer."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return 0
        return int(struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


path, rounds, arguments = sys.argv[1], int(sys.argv[2]), tuple(sys.argv[3:])
for _ in range(rounds):
    with sampan.connect(f"unix://{path}", command=sampan.EngineCommand(arguments)) as engine:
        assert engine.info()["ID"]
        print(peer(path), flush=True)
    time.sleep(random.uniform(0, 0.6))
