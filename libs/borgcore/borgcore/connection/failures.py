"""Classifies redis-py's errors as outages or refusals, and turns them into one line for the user."""

from collections.abc import Iterator

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from borgcore.errors import BorgError, ServerError

_REFUSED = (AuthenticationError, AuthorizationError, AuthenticationWrongNumberOfArgsError, NoPermissionError)


class LoginRefusedError(AuthenticationError):
    """The server refuses a login that worked before and is read from files, so the files may be about to change."""

    def __init__(self, text: str, note: str) -> None:
        """``note`` ends the line for the user."""
        super().__init__(text)
        self.note = note


def is_refusal(error: BaseException | None) -> bool:
    """Return whether the server refused us; on some paths redis-py reports a refusal as a lost connection."""
    while error is not None:
        if isinstance(error, _REFUSED) or "username-password" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_outage(error: BaseException) -> bool:
    """Return whether trying again may help: the server is absent, slow or loading, or our login may change."""
    if isinstance(error, LoginRefusedError):
        return True
    return isinstance(error, RedisConnectionError | RedisTimeoutError) and not is_refusal(error)


def server_error(error: BaseException, address: str) -> ServerError:
    """Turn an error of redis-py into one line that names the server and the cause."""
    text = str(error).strip() or type(error).__name__
    lower = text.lower()
    where = f"Redis at {address}"
    match error:
        case OutOfMemoryError():
            line = f"{where} is out of memory: {text} Raise its maxmemory or lower the replay capacity."
        case ReadOnlyError():
            line = f"{where} is a read-only replica; the address of its primary is expected"
        case NoPermissionError():
            line = f"{where} denies this user a permission that the run needs: {text}{_who_may(text)}"
        case _ if is_refusal(error) or "noauth" in lower:
            asked = "noauth" in lower or "required" in lower
            line = f"{where} {'asks for a password' if asked else 'refused the password'}; set BORG_REDIS_PASSWORD"
            if isinstance(error, LoginRefusedError):
                line += error.note
        case BusyLoadingError():
            line = f"{where} is still loading its data; try again once it has finished"
        case RedisTimeoutError() | TimeoutError():
            line = f"{where} gave no answer in time: {text}"
        case RedisConnectionError() | OSError():
            line = f"{where} cannot be reached: {text}"
        case _:
            line = f"{where} answered with an error: {text}"
    return ServerError(line)


def _who_may(text: str) -> str:
    if "function|load" not in text:
        return ""
    return (
        " The replay memory's functions are missing, or are those of another version: borg up and the setup's step "
        "functions load them, or a user who may."
    )


def user_error(failure: BaseException, address: str) -> BorgError | None:
    """Return the user-facing error behind ``failure``, or None for a bug.

    In a group of errors the first :class:`BorgError` counts, then the first error of redis-py, which is taken to come
    from the server at ``address``.
    """
    leaves = list(leaves_of(failure))
    for error in leaves:
        if isinstance(error, BorgError):
            return error
    for error in leaves:
        if isinstance(error, RedisError | TimeoutError):
            return server_error(error, address)
    return None


def leaves_of(failure: BaseException) -> Iterator[BaseException]:
    """Yield the errors in ``failure``, which may be an exception group of any depth."""
    if isinstance(failure, BaseExceptionGroup):
        for inner in failure.exceptions:
            yield from leaves_of(inner)
    else:
        yield failure
