"""A stand-in for Elasticsearch that accepts ``_bulk`` requests as fast as they arrive; runs as a separate process.

    python -m bench.shared.sink      prints its port, then serves until it is terminated

It answers each request with one item per document, status 201: with all fields that Elasticsearch sends, or with the
status alone if ``filter_path`` asks for that. Elasticsearch does the same, and it matters: rsyslog cannot ask for less
and spends more than half of its time on reading answers. Answers are built once for each number of documents.

Bodies are kept and parsed only for ``GET /counts``, outside of the measured time. ``GET /arrivals`` costs nothing.
"""

import re
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cache

import orjson

MARK = b'"event":"episode_ended"'  # once in each document of the load
MAX_HEAD_BYTES = 65_536
ITEM = {
    "_index": "training_log-2026.11",
    "_id": "01890a5d-ac96-774b-bcce-b302099a8057",
    "_version": 1,
    "result": "created",
    "_shards": {"total": 1, "successful": 1, "failed": 0},
    "_seq_no": 0,
    "_primary_term": 1,
    "status": 201,
}
INFO = {
    "name": "sink",
    "cluster_name": "sink",
    "version": {
        "number": "8.19.21",
        "build_flavor": "default",
        "lucene_version": "9.12.2",
        "minimum_wire_compatibility_version": "7.17.0",
        "minimum_index_compatibility_version": "7.0.0",
    },
    "tagline": "You Know, for Search",
}
_length_in = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
_numbers_in = re.compile(rb'"event_id":"[0-9a-f-]{24}b0(\d{10})"').findall
_document_ids_in = re.compile(rb'"_id": ?"([^"]+)"').findall


@dataclass
class Arrivals:
    """The documents of the load that arrived since the last ``POST /reset``."""

    requests: int = 0
    documents: int = 0
    first_documents: int = 0
    """Documents of the first request."""
    first_s: float = 0.0
    """Arrival of the first request, on the machine's monotonic clock."""
    last_s: float = 0.0
    bodies: list[bytearray] = field(default_factory=list)
    numbers: set[bytes] = field(default_factory=set)
    """The load's numbers, see :mod:`bench.shared.load`."""
    with_ids: int = 0
    """Documents with an ``_id``."""

    def add(self, body: bytearray) -> None:
        """Count one request's documents, except a shipper's reports about itself."""
        documents = body.count(MARK)
        if not documents:
            return
        self.last_s = time.monotonic()
        if not self.requests:
            self.first_documents, self.first_s = documents, self.last_s
        self.requests += 1
        self.documents += documents
        self.bodies.append(body)

    def progress(self) -> dict[str, float]:
        """Return the counters."""
        names = ("requests", "documents", "first_documents", "first_s", "last_s")
        return {name: getattr(self, name) for name in names}

    def digest(self) -> dict[str, float]:
        """Parse the bodies and discard them; return all counters."""
        bodies, self.bodies = self.bodies, []
        for body in bodies:
            self.numbers.update(_numbers_in(body))
            self.with_ids += len(_document_ids_in(body))
        return self.progress() | {"distinct": len(self.numbers), "with_ids": self.with_ids}


class Sink:
    """Serves connections, one thread each; blocking sockets are the cheapest here."""

    def __init__(self) -> None:
        self._arrivals = Arrivals()
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        """Accept connections forever."""
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection: socket.socket) -> None:
        with connection:
            rest = b""
            while request := _read_request(connection, rest):
                head, body, rest = request
                connection.sendall(self._answer(head, body))

    def _answer(self, head: bytes, body: bytearray) -> bytes:
        line = head.split(b"\r\n", 1)[0]
        method, target = line.split(b" ")[:2]
        path = target.partition(b"?")[0]
        with self._lock:
            if path.endswith(b"/_bulk"):
                self._arrivals.add(body)
                return _bulk_answer(body.count(b"\n") // 2, b"filter_path" in target, body.startswith(b'{"create"'))
            if path == b"/arrivals":
                return _http(orjson.dumps(self._arrivals.progress()))
            if path == b"/counts":
                return _http(orjson.dumps(self._arrivals.digest()))
            if path == b"/reset":
                self._arrivals = Arrivals()
        if method == b"HEAD":
            return _http(b"")
        return _http(orjson.dumps(INFO if path == b"/" else {"acknowledged": True, "status": "green"}))


def _read_request(connection: socket.socket, read: bytes) -> tuple[bytes, bytearray, bytes] | None:
    """Read one request; return its head, its body and the bytes read beyond it, or None at the connection's end."""
    while b"\r\n\r\n" not in read:
        more = connection.recv(MAX_HEAD_BYTES)
        if not more or len(read) > MAX_HEAD_BYTES:
            return None
        read += more
    head, _, read = read.partition(b"\r\n\r\n")
    if b"100-continue" in head:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    found = _length_in(head)
    length = int(found[1]) if found else 0
    body = bytearray(length)
    have = min(len(read), length)
    body[:have] = read[:have]
    view = memoryview(body)
    while have < length:
        received = connection.recv_into(view[have:])
        if not received:
            return None
        have += received
    view.release()
    return head, body, read[length:]


@cache
def _bulk_answer(documents: int, filtered: bool, create: bool) -> bytes:
    action = "create" if create else "index"
    if filtered:
        return _http(orjson.dumps({"errors": False, "items": [{action: {"status": 201}}] * documents}))
    return _http(orjson.dumps({"took": 1, "errors": False, "items": [{action: ITEM}] * documents}))


def _http(body: bytes) -> bytes:
    head = "HTTP/1.1 200 OK\r\nX-Elastic-Product: Elasticsearch\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    """Serve on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        try:
            Sink().serve(listener)
        except KeyboardInterrupt:
            sys.exit(0)


if __name__ == "__main__":
    main()
