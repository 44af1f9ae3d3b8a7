"""Combine the command line with the record of a resumed run, and check both before anything starts."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import get_args
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr, TypeAdapter, ValidationError

from borgagent.dqn.presets import PresetName, choose_preset
from borgcli.launch.machine import count_cores, has_cuda
from borgcli.options import Flags
from borgcore.errors import MismatchError, SettingsError
from borgcore.run.folder import RunFolder, lock_run
from borgcore.run.record import RunRecord, check_name, find_run, read_record, write_record
from borgcore.settings.addresses import read_address
from borgcore.settings.sections import RedisSettings

PASSWORD_VARIABLE = "BORG_REDIS_PASSWORD"  # noqa: S105  # its name
DEFAULT_GAME = "pong"
DEFAULT_AGENTS = 2
_MAX_SEED = 1 << 31
_PRESET: TypeAdapter[PresetName] = TypeAdapter(PresetName)


@dataclass(frozen=True)
class Plan:
    """Everything one ``borg up`` needs, decided."""

    folder: RunFolder
    record: RunRecord
    resumed: bool = False
    for_s: float | None = None
    until_return: float | None = None
    grace_s: float = 20.0  # for an agent to drain, its checkpoint included
    lock_file: int | None = None  # descriptor that children inherit
    password: SecretStr | None = None  # of a server of the user's own; kept here alone

    def external_redis(self) -> RedisSettings | None:
        """Return how to reach the user's own server, or None for the embedded one."""
        if self.record.redis_url is None:
            return None
        ca_file = os.environ.get("BORG_REDIS_CA_FILE")
        return RedisSettings(
            url=self.record.redis_url,
            user=os.environ.get("BORG_REDIS_USER") or None,
            password=self.password,
            ca_file=Path(ca_file) if ca_file else None,
        )


@contextmanager
def open_plan(flags: Flags) -> Iterator[Plan]:
    """Decide what to run, create or find its folder, and hold its lock.

    A password inside the URL is removed from it: it must reach neither run.json nor a command line.

    Raises:
        SettingsError: a value is wrong, or the run exists or is running already.
        MismatchError: a flag contradicts the run that is resumed.
    """
    if flags.run is not None:
        check_name(flags.run)
    _check_preset(flags.preset)
    flags, password = _take_password(flags)
    made = None if flags.resume else _resolve(_new_record(flags))  # may ask torch, so before creating the folder
    folder = _find(flags) if made is None else _create(flags)
    with lock_run(folder) as lock_file:
        record = made or _resolve(_merge(read_record(folder), flags, folder))
        write_record(folder, record.started())
        yield Plan(
            folder,
            record,
            flags.resume,
            flags.for_s,
            flags.until_return,
            lock_file=lock_file,
            password=password,
        )


def _new_record(flags: Flags) -> RunRecord:
    return RunRecord(
        game=flags.game or DEFAULT_GAME,
        preset=_check_preset(flags.preset),
        agents=flags.agents or min(DEFAULT_AGENTS, count_cores()),
        seed=secrets.randbelow(_MAX_SEED) if flags.seed is None else flags.seed,
        capacity=flags.capacity,
        redis_url=flags.redis_url,
    )


def _resolve(record: RunRecord) -> RunRecord:
    """Resolve ``auto`` once, so that a run resumed on another machine keeps its preset."""
    if record.preset != "auto":
        return record
    cuda = record.game != "catch" and has_cuda()
    return record.model_copy(update={"preset": choose_preset("auto", record.game, cuda=cuda)})


def _create(flags: Flags) -> RunFolder:
    if flags.run is not None:
        folder = RunFolder(flags.runs / flags.run)
        folder.create()
        return folder
    game = re.sub(r"[^a-z0-9]+", "-", (flags.game or DEFAULT_GAME).lower()).strip("-")[:40] or "run"
    name = f"{game}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    attempt = 1
    while True:
        folder = RunFolder(flags.runs / (name if attempt == 1 else f"{name}-{attempt}"))
        try:
            folder.create()
        except SettingsError:  # another run started in the same second
            attempt += 1
            continue
        return folder


def _find(flags: Flags) -> RunFolder:
    try:
        return find_run(flags.runs, flags.run)
    except SettingsError as error:
        raise SettingsError(f"nothing to resume: {error}; nothing was started") from None


def _merge(record: RunRecord, flags: Flags, folder: RunFolder) -> RunRecord:
    """Apply new agents and seed; refuse changes that the stored transitions depend on."""
    for name in ("game", "preset", "capacity", "redis_url"):
        asked, stored = getattr(flags, name), getattr(record, name)
        if (name, asked) == ("preset", "auto"):
            continue  # means the preset of the run
        if asked is not None and asked != stored:
            flag = "--" + name.replace("_", "-")
            made = "without it" if stored is None else f"with {stored}"
            raise MismatchError(
                f"{flag} {asked} contradicts run {folder.run}, which was made {made}; leave {flag} out "
                "to go on with it, or start a new run; nothing was started"
            )
    changes = {"agents": flags.agents, "seed": flags.seed}
    return record.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _check_preset(preset: str | None) -> PresetName:
    try:
        return _PRESET.validate_python("auto" if preset is None else preset)
    except ValidationError:
        expected = ", ".join(get_args(PresetName))
        raise SettingsError(f"--preset: found {preset!r}; expected one of {expected}; nothing was started") from None


def _take_password(flags: Flags) -> tuple[Flags, SecretStr | None]:
    """Return the flags without the password of their URL, and that password or else the environment's."""
    given = os.environ.get(PASSWORD_VARIABLE)
    password = SecretStr(given) if given else None
    if flags.redis_url is None:
        return flags, password
    try:
        read_address(flags.redis_url)
    except ValueError as error:
        raise SettingsError(f"--redis-url: {error}; nothing was started") from None
    url = urlsplit(flags.redis_url)
    if url.password is None:
        return flags, password
    user, host = url.username or "", url.netloc.rsplit("@", 1)[1]
    plain = urlunsplit(url._replace(netloc=f"{user}@{host}" if user else host))
    return replace(flags, redis_url=plain), SecretStr(unquote(url.password))
