"""Redis' users for one run, and the replay memory's functions, which the agents only call."""

import structlog
from anyio import to_thread
from redis.exceptions import RedisError

from borgcore.connection.client import open_redis
from borgcore.connection.failures import server_error
from borgcore.replay.library import load_functions
from borgcore.run.access import Role, hashed, rules
from borgsetup.keys import REDIS_PASSWORDS, read_secret
from borgsetup.settings import SetupSettings

_SERVICES: tuple[Role, ...] = ("agent", "monitor")
_log = structlog.get_logger()


async def prepare_redis(settings: SetupSettings) -> None:
    """Set the users of the run, which its configuration has only for the run of its last start, and load the functions.

    Raises:
        SettingsError: a password is missing.
        ServerError: Redis cannot be reached, refuses us, or is full.
    """
    passwords = {
        role: await to_thread.run_sync(read_secret, settings.keys_dir, REDIS_PASSWORDS[role]) for role in _SERVICES
    }
    async with open_redis(settings.redis) as redis:
        try:
            for role, password in passwords.items():
                words = ("ACL", "SETUSER", role, *rules(role, settings.run), hashed(password))
                await redis.execute_command(*words)  # type: ignore[no-untyped-call]
        except RedisError as error:
            raise server_error(error, settings.redis.address) from error
        _log.info("functions_prepared", run=settings.run, users=_SERVICES, loaded=await load_functions(redis))
