"""Users of the run's Redis: what each service may do there, as Redis' access control lists (ACL) say it.

Each may use the keys of its own run alone, and no command that administers the server. Functions are loaded by whoever
starts the server (``borg up``, the step ``functions`` of the setup); the services only call them.
"""

import hashlib
import hmac
from typing import Literal

from pydantic import SecretStr

Role = Literal["agent", "monitor", "logshipper"]
ROLES: tuple[Role, ...] = ("agent", "monitor", "logshipper")

_ALL = "borg:{{{run}:r0}}:{part}*"
_CONNECTED = "ping info"
_PUBLISHES = (
    "eval xadd xlen xtrim xpending xinfo|stream xinfo|groups exists hget hset hdel hincrby hgetall"  # streams/*.lua
)
_COMMANDS: dict[Role, str] = {
    "agent": (
        f"{_CONNECTED} {_PUBLISHES} fcall evalsha script|load hmget hlen hstrlen memory|usage zadd zcard zrevrange"
    ),
    "monitor": f"{_CONNECTED} {_PUBLISHES} hmget memory|usage cluster|nodes",
    "logshipper": f"{_CONNECTED} {_PUBLISHES} xreadgroup xack xclaim xrevrange xgroup|create xinfo|consumers",
}


def rules(role: Role, run: str) -> list[str]:
    """Return the rules of a role's user for ACL SETUSER, without password: its commands and keys, nothing else."""
    whole, events = _ALL.format(run=run, part=""), _ALL.format(run=run, part="events")
    keys = {"agent": [f"~{whole}"], "monitor": [f"%R~{whole}", f"~{events}"], "logshipper": [f"~{events}"]}[role]
    found = ["reset", "on", *keys, *(f"+{command}" for command in _COMMANDS[role].split())]
    if role == "agent":  # leases alone are deleted
        found.append(f"(~{_ALL.format(run=run, part='lease:')} +get +set +del +pexpire)")
    return found


def user_line(role: Role, run: str, password: SecretStr) -> str:
    """Return a role's user as a line of the server's configuration; it holds the password's SHA-256."""
    return f"user {role} {' '.join([*rules(role, run), hashed(password)])}"


def hashed(password: SecretStr) -> str:
    """Return the rule of an ACL that sets this password, as its SHA-256."""
    return "#" + hashlib.sha256(password.get_secret_value().encode()).hexdigest()


def derive_password(master: SecretStr, role: Role) -> SecretStr:
    """Return the password of a role's user where one process makes them all; the master does not follow from it."""
    return SecretStr(hmac.new(master.get_secret_value().encode(), role.encode(), hashlib.sha256).hexdigest())
