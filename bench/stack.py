"""Measure the full stack in Docker: time until it trains, memory of its containers, size of its images.

    python -m bench.stack [--file tests/compose/standins.yaml] [--agents 1] [--seconds 60]      JSON lines

It starts a separate project and removes it at the end, including its volumes. The images must exist: pulling and
building are not measured.
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

from bench.shared.lines import print_line
from bench.shared.signals import exit_on_sigterm

ROOT = Path(__file__).parents[1]
PROJECT = "borgbench"
START_LIMIT_S = 600.0
POLL_S = 0.25
PORTS = ("KIBANA_PORT", "ELASTICSEARCH_PORT", "REDIS_PORT")
_COUNT = (
    "curl -s --noproxy '*' --cacert config/keys/ca.crt "
    '-u "elastic:$(cat config/keys/elastic_password)" '
    "'https://localhost:9200/training_log-*/_count?q=event:agent_reported'"
)


def main() -> None:
    """Measure, print the results, remove the project."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--file", type=Path, action="append", default=[], help="compose files in addition to deploy/compose.yaml"
    )
    parser.add_argument("--agents", type=int, default=1, help="agents to start (default: 1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="training time before memory is read (default: 60)")
    options = parser.parse_args()
    exit_on_sigterm()
    for name in PORTS:
        os.environ[name] = "0"  # any free port
    with project([ROOT / "deploy" / "compose.yaml", *options.file]) as compose:
        began_s = time.monotonic()
        docker(*compose, "up", "--detach", "--pull", "never", "--no-build", "--scale", f"agent={options.agents}")
        print_stack("up_returned_s", time.monotonic() - began_s)
        while documents(compose) == 0:
            if time.monotonic() - began_s > START_LIMIT_S:
                raise SystemExit(f"no training document within {START_LIMIT_S:g} s")
            time.sleep(POLL_S)
        print_stack("first_training_document_s", time.monotonic() - began_s)
        time.sleep(options.seconds)
        names = docker(*compose, "ps", "--format", "{{.Name}}").split()
        for line in docker("stats", "--no-stream", "--format", "{{json .}}", *names).splitlines():
            found: dict[str, Any] = json.loads(line)
            memory, container = found["MemUsage"].split("/")[0].strip(), found["Name"].removeprefix(f"{PROJECT}-")
            print_stack("memory", memory, container=container)
        for line in docker(*compose, "images", "--format", "json").splitlines():
            for image in json.loads(line):
                print_stack("image_bytes", image["Size"], image=f"{image['Repository']}:{image['Tag']}")


@contextmanager
def project(files: list[Path]) -> Iterator[list[str]]:
    """Yield Docker Compose's arguments for a project; remove the project at the end."""
    compose = ["compose", "--project-name", PROJECT, *(option for file in files for option in ("--file", str(file)))]
    try:
        yield compose
    finally:
        docker(*compose, "down", "--volumes")


def documents(compose: list[str]) -> int:
    """Return the number of agents' reports in the store, 0 while it does not answer."""
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
    """Run a docker command; exit if it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def print_stack(measure: str, value: float | str, **of: str) -> None:
    """Print one result; ``of`` names the container or image."""
    print_line("stack", measure=measure, value=round(value, 1) if isinstance(value, float) else value, **of)


if __name__ == "__main__":
    main()
