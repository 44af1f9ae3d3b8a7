"""deploy/compose.yaml as data."""

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"
FILE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
ONE_SHOT = {"keys", "functions", "setup", "topics", "dashboard"}
OURS = {"agent", "monitor", "logshipper", *ONE_SHOT}
CHECKED = sorted(SERVICES.keys() - ONE_SHOT)


def environment(service: str) -> dict[str, str]:
    """The environment that a service has if that of ``docker compose`` is empty; what has no value comes from there."""
    found = SERVICES[service]["environment"]
    return {name: str(value) for name, value in found.items() if value is not None}


def mounts(service: str) -> dict[str, str]:
    """Where the configs of a service are mounted, and the files that they are."""
    return {config["target"]: FILE["configs"][config["source"]]["file"] for config in SERVICES[service]["configs"]}


def writable(service: str) -> set[str]:
    """The folders that a service may write: volumes and memory."""
    volumes = [volume for volume in SERVICES[service].get("volumes", []) if isinstance(volume, str)]
    memory = [mount.split(":")[0] for mount in SERVICES[service].get("tmpfs", [])]
    return {volume.split(":")[-1] for volume in volumes} | set(memory)
