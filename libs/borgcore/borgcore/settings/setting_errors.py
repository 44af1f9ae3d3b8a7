"""Describe a wrong setting in one line: its name, what was found, what is expected, the nearest name."""

import difflib
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError as SourceError

_UNRECOGNIZED = "unrecognized arguments: "  # how argparse begins
_MAX_SHOWN = 80  # characters of a wrong value that an error repeats


def describe_error(error: ErrorDetails, settings_cls: type[BaseModel], service: str) -> str:
    """Describe a validation error in one line; for an unknown name, suggest the nearest one."""
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{name} is no setting{_nearest(error['loc'], settings_cls)}; nothing was started"
    secret = isinstance(error["input"], SecretStr) or "password" in name or "url" in name
    found = "a value not shown here" if secret else repr(error["input"])[:_MAX_SHOWN]
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # settings that contradict each other
        return f"{name or service}: {message}; nothing was started"
    return f"{name or service}: found {found}; {message}; nothing was started"


def _nearest(location: tuple[int | str, ...], settings_cls: type[BaseModel]) -> str:
    model: type[BaseModel] = settings_cls
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        section = None if field is None else section_of(field)
        if section is not None:  # otherwise a key in a dict of sections
            model = section
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1, cutoff=0.0)
    return f"; the nearest name is {close[0]}" if close else ""


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the class of a nested section, or of the sections in a dict."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _options(model: type[BaseModel], prefix: str = "--") -> Iterator[str]:
    for name, field in model.model_fields.items():
        option = f"{prefix}{name.replace('_', '-')}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _options(field.annotation, f"{option}.")
        else:
            yield option


def describe_option(error: SourceError, settings_cls: type[BaseModel]) -> str:
    """Describe an invalid command line in one line, without values: one may be a password."""
    text = str(error).removeprefix("error parsing CLI: ")
    if text.startswith(_UNRECOGNIZED):
        name = text.removeprefix(_UNRECOGNIZED).split()[0].split("=")[0]  # the rest may be a password
        nearest = difflib.get_close_matches(name, _options(settings_cls), n=1, cutoff=0.0)[0]
        text = f"{name} is no option; the nearest is {nearest}"
    return f"{text}; nothing was started"
