"""Logins read again from their files, so that a new password or certificate authority needs no restart.

Clients do so when a server refuses them, not when a file changes: until the server is changed as well, the old login
is the right one.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from borgcore.errors import SettingsError


class SettingsFiles:
    """The TOML file and the folder of secrets of a service, and its settings as last read."""

    def __init__(self, load: Callable[[], Any], settings: Any, config: Path | None, secrets_dir: Path | None) -> None:
        """``load`` reads ``settings`` again; like the other methods here it blocks."""
        self.newest = settings
        """The settings as last read."""
        self.problem: str | None = None
        """Why the files could not be read again, if so."""
        self._load = load
        self._config = config
        self._secrets_dir = secrets_dir
        self._reading = threading.Lock()
        self._content: dict[Path, bytes] | None = None  # unknown until they are read again

    @property
    def exist(self) -> bool:
        """Whether there are any; settings from elsewhere cannot change."""
        return self._config is not None or self._secrets_dir is not None

    def read_again(self) -> None:
        """Replace the newest settings if a file has changed; wrong files change nothing."""
        with self._reading:
            content = self._read()
            if content == self._content and self.problem is None:
                return  # reading the settings takes far longer
            try:
                self.newest, self.problem = self._load(), None
            except SettingsError as error:
                self.problem = str(error)
            self._content = content

    def _read(self) -> dict[Path, bytes]:
        try:
            files = [] if self._config is None else [self._config]
            if self._secrets_dir is not None:
                files += [path for path in self._secrets_dir.iterdir() if path.is_file()]
            return {path: path.read_bytes() for path in files}
        except OSError:  # said by load
            return {}


@dataclass(frozen=True)
class LoginSource:
    """Where settings come from; all are equal, because settings with the same values are."""

    files: SettingsFiles = field(compare=False)
    select: Callable[[Any], Any] = field(compare=False)
    """Finds a section, say, in the settings of a service."""

    @property
    def newest(self) -> Any:
        """What was last read."""
        return self.select(self.files.newest)

    def convert(self, convert: Callable[[Any], Any]) -> "LoginSource":
        """Return the source of what ``convert`` makes of this one."""
        return LoginSource(self.files, lambda settings: convert(self.select(settings)))

    async def read_again(self) -> None:
        """Read the files again, in a thread."""
        await asyncio.to_thread(self.files.read_again)
