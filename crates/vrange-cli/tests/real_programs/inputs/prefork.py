"""A pre-forking server: workers are forked from a parent that has loaded what they share, and each serves one connection at a time.

A request is a line "SEED COUNT BYTES": blocks are filled, looked through when all are there, and freed. Its answer is their sum.
The request "kept" is answered with a digest of what was loaded before the fork.
"""
import hashlib
import os
import select
import socket
import sys

WORKERS, KEPT_MIB = int(sys.argv[1]), int(sys.argv[2])
kept = [bytes([number % 251 + 1]) * (1 << 20) for number in range(KEPT_MIB)]


def answer(line):
    if line == "kept":
        digest = hashlib.sha256()
        for block in kept:
            digest.update(block)
        return digest.hexdigest()
    seed, count, size = map(int, line.split())
    blocks = []
    for number in range(count):
        byte = (seed * 31 + number) % 255 + 1
        blocks.append((byte, bytearray([byte]) * (size + number * 16)))
    return str(sum(byte * block.count(byte) for byte, block in blocks))


def serve(listener):
    """One connection after the other, until the input ends that all processes share."""
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            # Another worker was faster.
            continue
        connection.setblocking(True)
        with connection, connection.makefile("rw") as stream:
            print(os.getpid(), file=stream, flush=True)
            for line in stream:
                print(answer(line.strip()), file=stream, flush=True)


listener = socket.create_server(("127.0.0.1", 0))
listener.setblocking(False)
for _ in range(WORKERS):
    if os.fork() == 0:
        serve(listener)
        sys.exit()
print(listener.getsockname()[1], flush=True)
sys.exit(max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(WORKERS)))
