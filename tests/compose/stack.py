"""The full stack as a test sees it: Docker Compose's command and, from outside, Elasticsearch. Its calls block."""

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.limits import HANG_S

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMMAND_LIMIT_S = 3_600  # the first time it builds the images
ASK_LIMIT_S = HANG_S
POLL_S = 0.5
LOG_TAIL = 60
SETUP_SECRETS = [f"borg_setup_{name}_password" for name in ("elastic", "kibana", "user")]
KAFKA_USERS = ("broker", "agent", "monitor", "logshipper", "logstash")
KAFKA_SECRETS = ["borg_events_password", *(f"kafka_{user}_password" for user in KAFKA_USERS)]
REDIS_SECRETS = ["redis_password", "borg_redis_password", "redis_agent_password", "redis_monitor_password"]
SECRETS = [*SETUP_SECRETS, *KAFKA_SECRETS, *REDIS_SECRETS, "kibana_encryption_key"]


@dataclass
class Stack:
    """One project of Docker Compose."""

    project: str
    standins: bool
    """Without Kibana and Logstash, on images that were built here."""
    ports: Mapping[str, int]
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = os.environ | {name: str(port) for name, port in self.ports.items()}

    def compose(self, *arguments: str, check: bool = True) -> str:
        files = [ROOT / "deploy" / "compose.yaml", *([HERE / "standins.yaml"] if self.standins else [])]
        options = [option for file in files for option in ("--file", str(file))]
        return self._run("compose", "--project-name", self.project, *options, *arguments, check=check)

    def up(self, *arguments: str) -> None:
        """Start what is not up; fail with what the containers say."""
        try:
            self.compose("up", "--detach", *(["--pull", "never"] if self.standins else []), *arguments)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}\n{self.state()}")

    def docker(self, *arguments: str) -> str:
        return self._run(*arguments, check=True)

    def _run(self, *arguments: str, check: bool) -> str:
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_LIMIT_S,
        )
        if check and done.returncode:
            pytest.fail(f"docker {' '.join(arguments[:12])}: {done.stderr[-3000:]}")
        return done.stdout

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What `docker inspect` says of them, those that ended included."""
        names = self.compose("ps", "--all", "--quiet", *([service] if service else [])).split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *names)) if names else []
        return found

    def crash(self, service: str) -> None:
        """Kill its first container's process as a fault would: Docker does not know that anybody wanted it."""
        os.kill(int(self.containers(service)[0]["State"]["Pid"]), signal.SIGKILL)

    @cached_property
    def secrets(self) -> dict[str, str]:
        script = f"cd /k && for name in {' '.join(SECRETS)} ca.crt; do echo @$name; cat $name; echo; done"
        image = json.loads(self.compose("config", "--format", "json"))["services"]["keys"]["image"]
        volume = f"{self.project}_keys-setup:/k:ro"
        text = self.docker("run", "--rm", "--volume", volume, "--entrypoint", "sh", image, "-c", script)
        pairs = (part.split("\n", 1) for part in text.split("@")[1:])
        return {name: value.strip() for name, value in pairs}

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        """Ask Elasticsearch, as its superuser, from this machine."""
        login = b64encode(f"elastic:{self.secrets['borg_setup_elastic_password']}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        url = f"https://127.0.0.1:{self.ports['ELASTICSEARCH_PORT']}{path}"
        trust = ssl.create_default_context(cadata=self.secrets["ca.crt"])
        request = urllib.request.Request(url, data, headers, method=method)  # https alone
        return read_json(request, urllib.request.HTTPSHandler(context=trust))

    def count(self, event: str, *, since_ms: int = 0, **fields: object) -> int:
        """Documents of an event; 0 while they cannot be counted."""
        terms = [{"term": {name: value}} for name, value in {"event": event, **fields}.items()]
        query = {"bool": {"filter": [*terms, {"range": {"@timestamp": {"gte": since_ms, "format": "epoch_millis"}}}]}}
        try:
            found: int = self.ask("/training_log-*,memory_monitoring-*/_count", {"query": query})["count"]
        except (OSError, urllib.error.URLError):
            return 0
        return found

    def expect(self, what: str, holds: Callable[[], bool], limit_s: float) -> None:
        """Wait until it holds; where it never does, fail with what the containers say."""
        deadline_s = time.monotonic() + limit_s
        while not holds():
            if time.monotonic() > deadline_s:
                pytest.fail(f"within {limit_s:g} s not seen: {what}\n{self.state()}")
            time.sleep(POLL_S)

    def expect_events(self, *events: str, since_ms: int = 0, limit_s: float, **fields: object) -> None:
        for event in events:
            self.expect(
                f"{event} {fields}",
                lambda event=event: self.count(event, since_ms=since_ms, **fields) > 0,  # type: ignore[misc]  # bound at once
                limit_s,
            )

    def expect_healthy(self, services: Sequence[str], limit_s: float) -> None:
        def healthy() -> bool:
            states = [container["State"] for service in services for container in self.containers(service)]
            return bool(states) and all(state.get("Health", {}).get("Status") == "healthy" for state in states)

        self.expect(f"{', '.join(services)} healthy", healthy, limit_s)

    def state(self) -> str:
        return self.compose("ps", "--all") + self.compose("logs", "--no-color", "--tail", str(LOG_TAIL), check=False)


def read_json(request: urllib.request.Request, *handlers: urllib.request.BaseHandler) -> Any:
    """Ask a server on this machine, past any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)
    with opener.open(request, timeout=ASK_LIMIT_S) as response:
        return json.load(response)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
