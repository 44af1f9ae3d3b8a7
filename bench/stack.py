"""The full stack in Docker: how long until it trains, what its containers and images weigh. Prints JSON lines.

    python -m bench.stack [--file tests/compose/standins.yaml] [--agents 1] [--seconds 60]

It starts a project of its own and removes it again, volumes included. Images have to be there: they are not measured.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = "borgbench"
START_LIMIT_S = 600.0
POLL_S = 0.25
PORTS = ("KIBANA_PORT", "ELASTICSEARCH_PORT", "REDIS_PORT")
_COUNT = (
    'curl -s --cacert config/keys/ca.crt -u "elastic:$(cat config/keys/elastic_password)" '
    "'https://localhost:9200/training_log-*/_count?q=event:agent_reported'"
)


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description="How long the full stack takes to train, and what it weighs.")
    parser.add_argument(
        "--file", type=Path, action="append", default=[], help="compose files beside deploy/compose.yaml"
    )
    parser.add_argument("--agents", type=int, default=1, help="agents to start")
    parser.add_argument("--seconds", type=float, default=60.0, help="time of training before memory is read")
    given = parser.parse_args()
    for name in PORTS:
        os.environ[name] = "0"  # any that is free
    with project([ROOT / "deploy" / "compose.yaml", *given.file]) as compose:
        began_s = time.monotonic()
        docker(*compose, "up", "--detach", "--pull", "never", "--no-build", "--scale", f"agent={given.agents}")
        tell("up_returned_s", time.monotonic() - began_s)
        while documents(compose) == 0:
            if time.monotonic() - began_s > START_LIMIT_S:
                raise SystemExit(f"no training document within {START_LIMIT_S:g} s")
            time.sleep(POLL_S)
        tell("first_training_document_s", time.monotonic() - began_s)
        time.sleep(given.seconds)
        names = docker(*compose, "ps", "--format", "{{.Name}}").split()
        for line in docker("stats", "--no-stream", "--format", "{{json .}}", *names).splitlines():
            found: dict[str, Any] = json.loads(line)
            tell("memory", found["MemUsage"].split("/")[0].strip(), container=found["Name"].removeprefix(f"{PROJECT}-"))
        for line in docker(*compose, "images", "--format", "json").splitlines():
            for image in json.loads(line):
                tell("image_bytes", image["Size"], image=f"{image['Repository']}:{image['Tag']}")


@contextmanager
def project(files: list[Path]) -> Iterator[list[str]]:
    """The arguments of Docker Compose for a project that is gone afterwards."""
    compose = ["compose", "--project-name", PROJECT, *(option for file in files for option in ("--file", str(file)))]
    try:
        yield compose
    finally:
        docker(*compose, "down", "--volumes")


def documents(compose: list[str]) -> int:
    """Reports of agents in the store; 0 while it cannot be asked."""
    done = subprocess.run(
        ["docker", *compose, "exec", "-T", "elasticsearch", "bash", "-c", _COUNT],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return int(json.loads(done.stdout)["count"])
    except (ValueError, KeyError, TypeError):
        return 0


def docker(*arguments: str) -> str:
    """Run Docker's command; ends the measurement where it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def tell(measure: str, value: float | str, **of: str) -> None:
    """Print one figure."""
    print(
        json.dumps(
            {
                "bench": "stack",
                "measure": measure,
                "value": round(value, 1) if isinstance(value, float) else value,
                **of,
            }
        )
    )


if __name__ == "__main__":
    main()
