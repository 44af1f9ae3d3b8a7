"""Destinations of bench.shipper: the scripted sink, or a real Elasticsearch."""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from bench.shared.load import TOPIC
from borgcore.events.elasticsearch_templates import index_template

TIMEOUT_S = 60.0
RETRY_S = 0.02  # after a 429; short, because further requests make a small Elasticsearch free its memory


@dataclass(frozen=True)
class Arrived:
    """The documents that arrived so far; times are on the machine's monotonic clock."""

    documents: int
    first_documents: int
    """Documents of the first request."""
    first_s: float
    last_s: float

    @property
    def documents_per_s(self) -> float:
        """Rate from the first request to the last, without the documents of the first."""
        return (self.documents - self.first_documents) / max(self.last_s - self.first_s, 1e-9)


class Target(Protocol):
    """A store that counts the arriving documents."""

    name: str
    url: str
    version: str
    period_s: float
    """Between two calls of ``arrived``."""

    def begin(self, prefix: str) -> None:
        """Start from an empty store."""

    def arrived(self) -> Arrived:
        """Return the arrivals since ``begin``."""

    def counts(self) -> dict[str, int]:
        """Count what is stored now: documents and, where known, distinct ones. Slow."""

    def end(self) -> None:
        """Delete the stored documents."""


class _Server:
    """Sends requests to an HTTP server over one connection."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port or 9200, timeout=TIMEOUT_S)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers, deadline_s = {"Content-Type": "application/json"}, time.monotonic() + TIMEOUT_S
        while True:
            self._connection.request(method, path, None if body is None else orjson.dumps(body), headers)
            with self._connection.getresponse() as response:
                answer = response.read()
            if response.status != http.client.TOO_MANY_REQUESTS or time.monotonic() > deadline_s:
                break
            time.sleep(RETRY_S)
        if response.status == http.client.NOT_FOUND:
            return {}
        if response.status != http.client.OK:
            raise RuntimeError(f"{self.url}{path} answered {response.status}, expected 200: {answer[:300].decode()}")
        return orjson.loads(answer)


class SinkTarget(_Server):
    """The scripted sink of :mod:`bench.shared.sink`: as fast as a store can be."""

    name = "kafka to sink"
    period_s = 0.02
    version = "scripted"

    def begin(self, prefix: str) -> None:  # noqa: ARG002  # it keeps no indices
        """Count from zero."""
        self.ask("POST", "/reset")

    def arrived(self) -> Arrived:
        """Return the sink's counters."""
        found = self.ask("GET", "/arrivals")
        return Arrived(*(found[name] for name in ("documents", "first_documents", "first_s", "last_s")))

    def counts(self) -> dict[str, int]:
        """Return the counts the sink finds in the bodies."""
        found = self.ask("GET", "/counts")
        return {name: found[name] for name in ("documents", "distinct", "with_ids", "requests")}

    def end(self) -> None:
        """Discard the bodies."""
        self.ask("POST", "/reset")


class ElasticTarget(_Server):
    """A real Elasticsearch, with our index template for every shipper."""

    name = "kafka to elasticsearch"
    period_s = 0.1

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.version = str(self.ask("GET", "/")["version"]["number"])
        self._prefix = ""
        self._first = self._last = Arrived(0, 0, 0.0, 0.0)

    def begin(self, prefix: str) -> None:
        """Install the template."""
        self._prefix, self._first, self._last = prefix, Arrived(0, 0, 0.0, 0.0), Arrived(0, 0, 0.0, 0.0)
        self.ask("PUT", f"/_index_template/{prefix}{TOPIC}", index_template(TOPIC, prefix, 0))

    def arrived(self) -> Arrived:
        """Return the index's counter, with the times at which it was read."""
        found = self.ask("GET", f"/{self._prefix}{TOPIC}-*/_stats/indexing")
        documents = found["_all"]["primaries"]["indexing"]["index_total"] if found["_all"]["primaries"] else 0
        if documents != self._last.documents:
            now_s = time.monotonic()
            if not self._last.documents:
                self._first = Arrived(documents, documents, now_s, now_s)
            self._last = Arrived(documents, self._first.documents, self._first.first_s, now_s)
        return self._last

    def counts(self) -> dict[str, int]:
        """Count after a refresh; ids are unique, so all documents are distinct."""
        self.ask("POST", f"/{self._prefix}{TOPIC}-*/_refresh")
        return {"documents": self.ask("GET", f"/{self._prefix}{TOPIC}-*/_count")["count"]}

    def end(self) -> None:
        """Delete indices and templates."""
        names = self.ask("GET", f"/{self._prefix}*/_alias")
        for index in names:
            self.ask("DELETE", f"/{index}")
        for template in self.ask("GET", f"/_index_template/{self._prefix}*").get("index_templates", []):
            self.ask("DELETE", f"/_index_template/{template['name']}")


@contextmanager
def open_sink() -> Iterator[SinkTarget]:
    """Run the sink for the block."""
    with subprocess.Popen([sys.executable, "-m", "bench.shared.sink"], stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the sink has no standard output, expected its port; nothing was measured")
            yield SinkTarget(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.terminate()
