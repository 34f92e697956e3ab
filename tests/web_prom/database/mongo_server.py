"""A server that speaks MongoDB's protocol as far as a test needs it. Debian has no MongoDB."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from typing import Any

import bson

HELLO = {
    "ok": 1,
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "minWireVersion": 0,
    "maxWireVersion": 25,
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
}
REPLIES: dict[str, dict[str, Any]] = {
    "hello": HELLO,
    "ismaster": HELLO,
    "isMaster": HELLO,
    "ping": {"ok": 1},
    "endSessions": {"ok": 1},
    "insert": {"ok": 1, "n": 1},
    "find": {"ok": 1, "cursor": {"id": 0, "ns": "shop.orders", "firstBatch": [{"number": 7}]}},
}
FAILURE = {"ok": 0, "code": 59, "codeName": "CommandNotFound", "errmsg": "no such command"}
HEADER = struct.Struct("<iiii")
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013


class Handler(socketserver.BaseRequestHandler):
    """Answers the commands of a connection. It closes the connection at `crash`."""

    def handle(self) -> None:
        """Answer until the client disconnects."""
        while header := self._read(HEADER.size):
            length, request, _, kind = HEADER.unpack(header)
            body = self._read(length - HEADER.size)
            # A query has flags, the name of the collection, two numbers and a document. A message has flags,
            # the kind of the section and a document.
            start = body.index(b"\0", 4) + 9 if kind == OP_QUERY else 5
            size = int.from_bytes(body[start : start + 4], "little")
            command = next(iter(bson.decode(body[start : start + size])))
            if command == "crash":
                return
            document = bson.encode(REPLIES.get(command, FAILURE))
            if kind == OP_QUERY:
                answer, reply = struct.pack("<iqii", 8, 0, 0, 1) + document, OP_REPLY
            else:
                answer, reply = struct.pack("<ib", 0, 0) + document, OP_MSG
            self.request.sendall(HEADER.pack(HEADER.size + len(answer), 0, request, reply) + answer)

    def _read(self, count: int) -> bytes:
        read = b""
        while len(read) < count:
            try:
                chunk = self.request.recv(count - len(read))
            except OSError:
                return b""
            if not chunk:
                return b""
            read += chunk
        return read


class MongoServer(socketserver.ThreadingTCPServer):
    """The server, as a context."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._connections: list[socket.socket] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """The URL for a client."""
        return f"mongodb://127.0.0.1:{self.server_address[1]}/?directConnection=true&retryReads=false&retryWrites=false"
