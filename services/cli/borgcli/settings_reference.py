"""Every program's settings in words: ``python -m borgcli.settings_reference`` prints docs/settings.md."""

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from borgagent.settings import AgentSettings
from borgcore.settings.service import ServiceSettings, SharedSettings
from borglogshipper.settings import LogshipperSettings
from borgmonitor.settings import MonitorSettings
from borgsetup.settings import SetupSettings

PROGRAMS: tuple[type[ServiceSettings], ...] = (AgentSettings, MonitorSettings, LogshipperSettings, SetupSettings)
_HEAD = """\
# Settings

Written by `python -m borgcli.settings_reference` from the settings classes.

A setting comes from the first of these that names it: command line, environment, secret files, TOML file, preset (the
agent's), default. It is read once at the start. A wrong value or an unknown name ends the start with one line that says
what was found, what is expected and the nearest name.

| | `learner.batch_size` of the agent | `run` of every program |
|---|---|---|
| command line | `--learner.batch-size 64` | `--run night` |
| environment | `BORG_AGENT_LEARNER__BATCH_SIZE=64` | `BORG_RUN=night`, or `BORG_AGENT_RUN` for the agent alone |
| secret file, in the folder that `BORG_SECRETS_DIR` names | `borg_agent_learner__batch_size` | `borg_run` |
| TOML, in the file that `BORG_CONFIG` names | `[agent.learner]` `batch_size = 64` | `run = "night"`, at the top |

Defaults below are those of the classes; what the agent's presets set instead is in `borgagent/dqn/presets.py`.
`borg up` passes its own options on to the processes that it starts; all else reaches them by environment and TOML.
"""


class Setting(NamedTuple):
    """One setting, as it is written down."""

    name: str
    """With its sections, dotted."""
    type: str
    default: str
    description: str


def list_settings(model: type[BaseModel], prefix: str = "", without: frozenset[str] = frozenset()) -> Iterator[Setting]:
    """Yield the settings of a class and of the sections in it, in order, but those named in ``without``."""
    for name, info in model.model_fields.items():
        if name in without:
            continue
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from list_settings(info.annotation, f"{prefix}{name}.")
            continue
        text = " ".join((info.description or "").split()).replace("<", "\\<").replace("|", "\\|")
        yield Setting(prefix + name, _type_of(info.annotation), _default_of(info), text)


def write_reference() -> str:
    """Return docs/settings.md."""
    sections = [_HEAD, "## Every program", _table(list_settings(SharedSettings))]
    for program in PROGRAMS:
        own = list_settings(program, without=frozenset(SharedSettings.model_fields))
        summary = " ".join((program.__doc__ or "").split())
        intro = f"{summary} Variables begin with `{program.env_prefix()}`."
        sections += [f"## borg-{program.service}", intro, _table(own)]
    return "\n\n".join(part.strip() for part in sections) + "\n"


def _table(settings: Iterator[Setting]) -> str:
    rows = [f"| `{one.name}` | {one.type} | {one.default} | {one.description} |" for one in settings]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows])


def _type_of(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), [one for one in get_args(annotation) if one is not type(None)]
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return "tables by number"
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
