"""Where bench/shipper has documents shipped to: the scripted sink, or a real Elasticsearch."""

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
PATIENCE_S = 0.02  # where a small Elasticsearch asks for it: its memory is cleared by more questions


@dataclass(frozen=True)
class Arrived:
    """What has come so far; times are on the machine's monotonic clock."""

    documents: int
    first_documents: int
    """Those that came with the first."""
    first_s: float
    last_s: float

    @property
    def documents_per_s(self) -> float:
        """From the first request to the last, so without the documents of the first."""
        return (self.documents - self.first_documents) / max(self.last_s - self.first_s, 1e-9)


class Target(Protocol):
    """A store that counts what comes."""

    name: str
    url: str
    version: str
    period_s: float
    """Between two looks at what has arrived."""

    def begin(self, prefix: str) -> None:
        """Be empty."""

    def arrived(self) -> Arrived:
        """What has come since."""

    def counts(self) -> dict[str, int]:
        """What is there now, looked at closely: documents, and how many different ones."""

    def end(self) -> None:
        """Delete what has come."""


class _Server:
    """Asks an HTTP server, over one connection."""

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
            time.sleep(PATIENCE_S)
        if response.status == http.client.NOT_FOUND:
            return {}
        if response.status != http.client.OK:
            raise RuntimeError(f"{self.url}{path} answered {response.status}: {answer[:300].decode()}")
        return orjson.loads(answer)


class SinkTarget(_Server):
    """bench/shared/sink: our own ceiling."""

    name = "kafka to sink"
    period_s = 0.02
    version = "scripted"

    def begin(self, prefix: str) -> None:  # noqa: ARG002  # it keeps no indices
        """Count from zero."""
        self.ask("POST", "/reset")

    def arrived(self) -> Arrived:
        """As the sink counts."""
        found = self.ask("GET", "/arrivals")
        return Arrived(*(found[name] for name in ("documents", "first_documents", "first_s", "last_s")))

    def counts(self) -> dict[str, int]:
        """As the sink finds them in the bodies."""
        found = self.ask("GET", "/counts")
        return {name: found[name] for name in ("documents", "distinct", "with_ids", "requests")}

    def end(self) -> None:
        """Let go of the bodies."""
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
        """As the index counts; times are those of the looks."""
        found = self.ask("GET", f"/{self._prefix}{TOPIC}-*/_stats/indexing")
        documents = found["_all"]["primaries"]["indexing"]["index_total"] if found["_all"]["primaries"] else 0
        if documents != self._last.documents:
            now_s = time.monotonic()
            if not self._last.documents:
                self._first = Arrived(documents, documents, now_s, now_s)
            self._last = Arrived(documents, self._first.documents, self._first.first_s, now_s)
        return self._last

    def counts(self) -> dict[str, int]:
        """Count after a refresh; no two documents have one id."""
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
    """Run the sink for the time of the block."""
    with subprocess.Popen([sys.executable, "-m", "bench.shared.sink"], stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the sink has no output")
            yield SinkTarget(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.terminate()
