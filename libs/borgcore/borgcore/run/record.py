"""``run.json``: the settings that made a run, with the borg version, and how it ended last."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from borgcore.errors import BorgError, CorruptDataError, SettingsError
from borgcore.run.folder import RunFolder, is_running
from borgcore.settings.service import RunName

_RUNNING = "running"
_RUN_NAME: TypeAdapter[str] = TypeAdapter(RunName)


def borg_version() -> str:
    """The version of the borg command."""
    return version("borgcore")


def _now() -> datetime:
    return datetime.now(UTC)


class RunRecord(BaseModel):
    """What a resumed run needs to know about its past."""

    model_config = ConfigDict(frozen=True)

    game: str
    preset: str
    agents: PositiveInt
    seed: NonNegativeInt
    capacity: PositiveInt | None = None
    redis_url: str | None = None  # None: the embedded Valkey
    borg: str = Field(default_factory=borg_version)
    created: datetime = Field(default_factory=_now)
    updated: datetime = Field(default_factory=_now)
    state: str = _RUNNING
    exit_code: int | None = None

    def started(self) -> "RunRecord":
        """Return the record of a run that runs now, by this version of borg."""
        return self.model_copy(update={"state": _RUNNING, "exit_code": None, "updated": _now(), "borg": borg_version()})

    def ended(self, state: str, exit_code: int) -> "RunRecord":
        """Return the record with how the run ended."""
        return self.model_copy(update={"state": state, "exit_code": exit_code, "updated": _now()})

    def describe_state(self, folder: RunFolder) -> str:
        """Describe the state; the record of a killed borg still says "running", so the lock is checked."""
        if self.state != _RUNNING:
            return self.state
        return _RUNNING if is_running(folder) else "killed"


def write_record(folder: RunFolder, record: RunRecord) -> None:
    """Replace run.json in one step."""
    new = folder.record.with_suffix(".json.new")
    try:
        new.write_text(record.model_dump_json(indent=2) + "\n")
        new.replace(folder.record)
    except OSError as error:
        raise BorgError(f"cannot write {folder.record}: {error.strerror}") from None


def read_record(folder: RunFolder) -> RunRecord:
    """Read run.json.

    Raises:
        CorruptDataError: it is absent or not what borg writes.
    """
    try:
        return RunRecord.model_validate_json(folder.record.read_bytes())
    except OSError as error:
        raise CorruptDataError(f"cannot read {folder.record}: {error.strerror}; nothing was started") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CorruptDataError(
            f"{folder.record} is no run record: {where}: {first['msg'].lower()}; nothing was started"
        ) from None


def list_runs(runs: Path) -> list[tuple[RunFolder, RunRecord]]:
    """Return the runs of a folder, newest first; skip everything else."""
    found = []
    for path in runs.iterdir() if runs.is_dir() else ():
        try:
            found.append((folder := RunFolder(path), read_record(folder)))
        except CorruptDataError:
            continue
    return sorted(found, key=lambda pair: pair[1].updated, reverse=True)


def find_run(runs: Path, run: str | None) -> RunFolder:
    """Return the run of that name, or the newest if none is given.

    Raises:
        SettingsError: there is none.
    """
    if run is None:
        found = list_runs(runs)
        if not found:
            raise SettingsError(f"{runs} holds no run; borg up starts one")
        return found[0][0]
    check_name(run)
    folder = RunFolder(runs / run)
    if not folder.path.is_dir():
        raise SettingsError(f"there is no run {run} in {runs}; borg runs lists what is there")
    return folder


def check_name(run: str) -> None:
    """Refuse an invalid name for a run.

    Raises:
        SettingsError: the name is invalid.
    """
    try:
        _RUN_NAME.validate_python(run)
    except ValidationError:
        raise SettingsError(
            f"--run: found {run[:80]!r}; expected up to 64 letters, digits, dots, dashes and underscores, "
            "the first a letter or digit; nothing was started"
        ) from None
