"""Health checks that neither a slow start nor a proxy makes fail."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.limits import HANG_S
from tests.unit.deploy.stack_file import CHECKED, SERVICES, environment

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY")  # that ~/.docker/config.json puts into containers
PATIENCE_S = 300


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("name", CHECKED)
def test_a_server_that_starts_slowly_is_not_unhealthy(name: str) -> None:
    """Docker counts failures only after the start period: with its three retries a start ends 15 seconds later."""
    check = SERVICES[name]["healthcheck"]
    assert check["retries"] >= 60
    assert check["retries"] * seconds(check["interval"]) >= PATIENCE_S
    assert seconds(check["start_period"]) >= 60
    assert seconds(check["timeout"]) >= 10


@pytest.mark.parametrize("name", CHECKED)
def test_no_check_asks_a_proxy(name: str) -> None:
    text = " ".join(SERVICES[name]["healthcheck"]["test"])
    assert len(re.findall(r"\bcurl\b", text)) == text.count("curl -s --noproxy '*' ")
    assert "urlopen" not in text
    assert ("urllib" in text) == ("build_opener(r.ProxyHandler({}))" in text)
    assert not re.search(r"\bwget\b|https?_proxy", text)
    ours = {"curl ", "build_opener", "redis-cli ", "/dev/tcp/"}  # whose ways round a proxy are known
    assert sum(way in text for way in ours) == 1


@pytest.mark.parametrize("name", CHECKED)
def test_every_check_asks_the_container_itself(name: str) -> None:
    hosts = re.findall(r"(?:https?://|/dev/tcp/)([\w.]+)", " ".join(SERVICES[name]["healthcheck"]["test"]))
    assert set(hosts) <= {"localhost", "127.0.0.1"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_inherits_a_proxy(name: str) -> None:
    given = environment(name)
    for proxy in PROXIES:
        assert given[proxy] == given[proxy.lower()] == ""
    assert given["NO_PROXY"] == given["no_proxy"] == "*"


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status":"green","overall":{"level":"available"}}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", [name for name in CHECKED if name not in {"redis", "kafka"}])
def test_a_check_succeeds_behind_a_proxy_that_leads_nowhere(name: str, port: int) -> None:
    kind, *command = SERVICES[name]["healthcheck"]["test"]
    command = ["bash", "-c", *command] if kind == "CMD-SHELL" else [sys.executable, *command[1:]]
    command[-1] = re.sub(r"https?://(localhost|127\.0\.0\.1):\d+", f"http://127.0.0.1:{port}", command[-1])
    environment = os.environ | {proxy.lower(): "http://127.0.0.1:1" for proxy in PROXIES}
    environment.pop("no_proxy", None)
    done = subprocess.run(command, env=environment, check=False, capture_output=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
