"""Every program's settings in words: ``python -m borgcli.settings_reference`` prints docs/settings.md."""

import sys
from collections.abc import Collection, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import CliPositionalArg

from borgagent.settings import AgentSettings
from borgcore.settings.service import SHARED_PREFIX, ServiceSettings, SharedSettings
from borgcore.settings.setting_errors import section_of
from borglogshipper.settings import LogshipperSettings
from borgmonitor.settings import MonitorSettings
from borgsetup.settings import SetupSettings

PROGRAMS: tuple[type[ServiceSettings], ...] = (AgentSettings, MonitorSettings, LogshipperSettings, SetupSettings)
_HEAD = """\
# Settings

Written by `python -m borgcli.settings_reference` from the settings classes.

A setting comes from the first of these that names it: command line, environment, secret files, TOML file, preset (the
agent's), default. It is read once at the start, except [logins](operations.md#new-passwords-and-certificates). A wrong
value or an unknown name ends the start with one line that says what was found, what is expected and the nearest name.

| | `learner.batch_size` of the agent | `run` of every program |
|---|---|---|
| command line | `--learner.batch-size 64` | `--run night` |
| environment | `BORG_AGENT_LEARNER__BATCH_SIZE=64` | `BORG_RUN=night`, or `BORG_AGENT_RUN` for the agent alone |
| secret file, in the folder that `BORG_SECRETS_DIR` names | `borg_agent_learner__batch_size` | `borg_run` |
| TOML, in the file that `BORG_CONFIG` names | `[agent.learner]` `batch_size = 64` | `run = "night"`, at the top |

Defaults below are those of the classes; what the agent's presets set instead is in `borgagent/dqn/presets.py`.
`borg up` passes its own options on to its processes; every other setting reaches them by environment and TOML.
"""
_SHARED = "In TOML these keys stand at the top. With a program's own prefix a variable is for that program alone."
_POSITIONAL = get_args(CliPositionalArg)[1]


class Setting(NamedTuple):
    """One setting as a row of its table."""

    key: str
    """In TOML: with its sections, dotted."""
    option: str
    variable: str
    type: str
    default: str
    meaning: str


def list_settings(
    model: type[BaseModel], env_prefix: str, *, sections: str = "", without: Collection[str] = ()
) -> Iterator[Setting]:
    """Yield the settings of a class and of its sections, in order, except those named in ``without``."""
    for field, info in model.model_fields.items():
        if field in without:
            continue
        name, section, by_number = sections + field, section_of(info), get_origin(info.annotation) is dict
        if section is None or by_number:
            variable = env_prefix + name.upper().replace(".", "__").replace("<N>", "<n>")
            yield Setting(
                f"`{name}`",
                _option_of(name, info),
                f"`{variable}`",
                _type_of(info.annotation),
                _default_of(info),
                " ".join((info.description or "").split()).replace("<", "\\<").replace("|", "\\|"),
            )
        if section is not None:
            yield from list_settings(section, env_prefix, sections=f"{name}.<n>." if by_number else f"{name}.")


def list_own(program: type[ServiceSettings]) -> Iterator[Setting]:
    """Yield the settings that only this program has."""
    return list_settings(program, program.env_prefix(), without=SharedSettings.model_fields)


def write_reference() -> str:
    """Return docs/settings.md."""
    parts = [_HEAD, "## Every program", _SHARED, _table(list_settings(SharedSettings, SHARED_PREFIX))]
    for program in PROGRAMS:
        summary = " ".join((program.__doc__ or "").split())
        intro = f"{summary} In TOML these keys belong in the table `[{program.service}]`."
        parts += [f"## borg-{program.service}", intro, _table(list_own(program))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(settings: Iterator[Setting]) -> str:
    head = f"| {' | '.join(Setting._fields)} |\n|{'---|' * len(Setting._fields)}"
    return "\n".join([head, *(f"| {' | '.join(setting)} |" for setting in settings)])


def _option_of(name: str, info: FieldInfo) -> str:
    """Write how the command line sets it; tables by number are given whole."""
    if _POSITIONAL in info.metadata:
        return "first argument"
    option = name.replace("_", "-")
    switch = f", `--no-{option}`" if info.annotation is bool else ""
    return "-" if "<n>" in name else f"`--{option}`{switch}"


def _type_of(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), [one for one in get_args(annotation) if one is not type(None)]
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return "tables by number, JSON on the command line"
    if arguments and origin is not None:
        return _type_of(arguments[0])
    names = {int: "integer", float: "number", str: "text", bool: "yes or no", Path: "path", SecretStr: "secret"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default_of(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=False)
    if value in (None, "") or info.default_factory is not None:
        return "none"
    if isinstance(value, Enum):
        value = value.value
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(write_reference())
