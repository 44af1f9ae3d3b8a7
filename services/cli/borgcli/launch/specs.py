"""Command line and environment of every process that borg starts beside Valkey."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from borgcli.launch.plan import PASSWORD_VARIABLE, Plan
from borgcore.run.access import Role
from borgcore.settings.sections import RedisSettings

SHIPPER_GROUP = "borg-logshipper"
HELPER_GRACE_S = 10.0  # for monitor and logshipper to drain
AGENT_OPTIONS = {"game": "--game", "preset": "--preset", "seed": "--seed", "capacity": "--replay.capacity"}
"""Fields of a run's record that are passed to its agents, with the agent's option for each."""
_MEMBER = "borg-up"  # in the group; the run's lock guarantees that there is one
# Decided by borg: the servers that the processes use, and that no two share a health address.
_DECIDED = re.compile(
    r"BORG_((AGENT|MONITOR|LOGSHIPPER)_)?(REDIS|EVENTS)_(URL|USER|PASSWORD|SASL|CA_FILE)"
    r"|BORG_LOGSHIPPER_(STORE(__.*)?|CHECK_CONFIG)|BORG_(AGENT_)?HEALTH_ADDRESS",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ChildSpec:
    """A process to start, and to restart when it dies."""

    name: str
    command: Sequence[str]
    log: Path
    role: Role | None = None
    """Its user in the embedded Valkey; the launcher's own without one."""


@dataclass(frozen=True)
class ChildSpecs:
    """All child processes of a run."""

    agents: Sequence[ChildSpec]
    monitors: Sequence[ChildSpec] = ()
    shippers: Sequence[ChildSpec] = ()


MakeSpecs = Callable[[Plan, RedisSettings], ChildSpecs]


def child_specs(plan: Plan, redis: RedisSettings) -> ChildSpecs:
    """Return how agents, monitor and logshipper are started; passwords travel in the environment."""
    folder = plan.folder
    return ChildSpecs(
        agents=[
            ChildSpec(f"agent process {slot}", agent_command(plan, redis), folder.agent_log(slot), "agent")
            for slot in range(1, plan.record.agents + 1)
        ],
        monitors=[
            ChildSpec(
                "the monitor", _program("borgmonitor", plan, redis, HELPER_GRACE_S), folder.monitor_log, "monitor"
            )
        ],
        shippers=[ChildSpec("the logshipper", shipper_command(plan, redis), folder.logshipper_log, "logshipper")],
    )


def agent_command(plan: Plan, redis: RedisSettings) -> list[str]:
    """Return the command line of an agent."""
    record = plan.record
    command = _program("borgagent", plan, redis, plan.grace_s)
    command += ["--checkpoint-dir", str(plan.folder.checkpoints)]
    for name, option in AGENT_OPTIONS.items():
        value = getattr(record, name)
        command += [] if value is None else [option, str(value)]
    return command


def shipper_command(plan: Plan, redis: RedisSettings) -> list[str]:
    """Return the command line of the logshipper; it always ships into the run's folder."""
    command = _program("borglogshipper", plan, redis, HELPER_GRACE_S)
    return [*command, "--store.url", plan.folder.events_url, "--group", SHIPPER_GROUP, "--member", _MEMBER]


def _program(package: str, plan: Plan, redis: RedisSettings, grace_s: float) -> list[str]:
    """Return what all command lines share; the event log is the run's own Redis, where our logshipper reads."""
    command = [sys.executable, "-P", "-m", f"{package}.main", "--run", plan.folder.run]
    command += ["--redis-url", redis.url, "--events-url", redis.url]
    return [*command, "--log-format", "json", "--grace-s", f"{grace_s:g}"]


def child_environment(redis: RedisSettings) -> dict[str, str]:
    """Return our environment without what borg decides, plus the credentials of the run's Redis."""
    env = {name: value for name, value in os.environ.items() if not _DECIDED.fullmatch(name)}
    password = "" if redis.password is None else redis.password.get_secret_value()
    # empty means none, even if a TOML file has one
    env |= {PASSWORD_VARIABLE: password, "BORG_EVENTS_PASSWORD": password, "BORG_HEALTH_ADDRESS": ""}
    if redis.user is not None:
        env |= {"BORG_REDIS_USER": redis.user, "BORG_EVENTS_USER": redis.user}
    if redis.ca_file is not None:
        env |= {"BORG_REDIS_CA_FILE": str(redis.ca_file), "BORG_EVENTS_CA_FILE": str(redis.ca_file)}
    return env
