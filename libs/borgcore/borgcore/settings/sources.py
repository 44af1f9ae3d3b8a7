"""Sources of settings besides the command line: environment, secret files, TOML file.

Command line and environment are read before the files, so both may name the files.
"""

import difflib
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource

from borgcore.errors import SettingsError

_MAX_CONFIG_BYTES = 1 << 20
_MAX_SECRET_BYTES = 1 << 16


class Variables(EnvSettingsSource):
    """Variables with one prefix, by default from the environment."""

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        prefix: str,
        *,
        only: Collection[str] | None = None,
        variables: Mapping[str, str | None] | None = None,
    ) -> None:
        """Take ``only`` these settings; the names of ``variables`` are lower case."""
        self._only = only
        self._variables = variables
        super().__init__(settings_cls, env_prefix=prefix)

    def __call__(self) -> dict[str, Any]:
        """Return the values, by setting."""
        found = super().__call__()
        return {name: value for name, value in found.items() if self._only is None or name in self._only}

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return super()._load_env_vars() if self._variables is None else self._variables


class SecretFiles(InitSettingsSource):
    """The folder that ``secrets_dir`` names: each file is named like a variable and holds its value.

    Docker Compose, Swarm and Kubernetes mount secrets this way.
    """

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        prefixes: Mapping[str, Collection[str] | None],
        refuse_unknown: Callable[[Iterable[str]], None],
    ) -> None:
        """``prefixes`` of variables, the first wins, each with the settings it applies to; None means all."""
        super().__init__(settings_cls, init_kwargs={})
        self._prefixes = prefixes
        self._common = min(prefixes, key=len).lower()
        self._refuse_unknown = refuse_unknown

    def __call__(self) -> dict[str, Any]:
        """Return the values in the files, by setting."""
        folder = self.current_state.get("secrets_dir")
        if folder is None:
            return {}
        variables = _read_folder(Path(folder), self._common)
        self._refuse_unknown(variables)
        found: dict[str, Any] = {}
        for prefix, only in self._prefixes.items():
            found = Variables(self.settings_cls, prefix, only=only, variables=variables)() | found
        return found


class TomlFile(InitSettingsSource):
    """The file that ``config`` names: shared settings at the top level, a service's own in the table of its name."""

    def __init__(self, settings_cls: type[BaseSettings], service: str, shared: Collection[str]) -> None:
        super().__init__(settings_cls, init_kwargs={})
        self._service = service
        self._shared = shared

    def __call__(self) -> dict[str, Any]:
        """Return the values in the file, by setting."""
        path = self.current_state.get("config")
        if path is None:
            return {}
        document = _read_toml(Path(path))
        shared = {name: document[name] for name in self._shared if name in document}
        own: dict[str, Any] = document.get(self._service, {})
        for name in set(document) - set(shared):
            if not isinstance(document[name], dict):
                nearest = difflib.get_close_matches(name, self._shared, n=1, cutoff=0.0)
                own_one = name in self.settings_cls.model_fields
                hint = f"it belongs in the table {self._service}" if own_one else f"the nearest name is {nearest[0]}"
                raise SettingsError(f"{path}: {name} is no shared setting; {hint}; nothing was started")
            known = {self._service, *self.settings_cls.model_fields}
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if nearest and name not in known:  # the rest are tables of other services
                raise SettingsError(
                    f"{path}: no table is named {name}; the nearest name is {nearest[0]}; nothing was started"
                )
        tables = {
            name: document[name] for name in self.settings_cls.model_fields if isinstance(document.get(name), dict)
        }
        return shared | tables | own


def _read_folder(folder: Path, prefix: str) -> dict[str, str | None]:
    """Read the files whose names begin with ``prefix``, without a trailing line break."""
    try:
        files = [path for path in sorted(folder.iterdir()) if path.name.lower().startswith(prefix) and path.is_file()]
        return {path.name.lower(): _read_secret(path) for path in files}
    except OSError as error:
        where = f"{error.filename}: {error.strerror}"
        raise SettingsError(f"cannot read secrets from {where}; nothing was started") from None


def _read_secret(path: Path) -> str:
    try:
        return _read(path, _MAX_SECRET_BYTES, "a secret").decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsError(f"cannot read secrets from {path}: it is no UTF-8 text; nothing was started") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(path, _MAX_CONFIG_BYTES, "settings").decode())
    except OSError as error:
        raise SettingsError(f"cannot read settings from {path}: {error.strerror}; nothing was started") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}; nothing was started") from None
    except RecursionError:
        raise SettingsError(f"{path} is nested too deeply for settings; nothing was started") from None


def _read(path: Path, limit_bytes: int, what: str) -> bytes:
    with path.open("rb") as file:
        raw = file.read(limit_bytes + 1)
    if len(raw) > limit_bytes:
        raise SettingsError(f"{path} is over {limit_bytes:,} bytes, too long for {what}; nothing was started")
    return raw
