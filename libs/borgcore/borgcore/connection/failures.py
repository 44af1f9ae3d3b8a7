"""What redis-py raises, as a user reads it: an outage to wait through, a refusal to mend, one line for either."""

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


def is_refusal(error: BaseException | None) -> bool:
    """Whether the server refused us; redis-py hides that behind a lost connection on some paths."""
    while error is not None:
        if isinstance(error, _REFUSED) or "username-password" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_outage(error: BaseException) -> bool:
    """Whether the server may answer if asked again: it is absent, slow or still loading, and did not refuse us."""
    return isinstance(error, RedisConnectionError | RedisTimeoutError) and not is_refusal(error)


def server_error(error: BaseException, address: str) -> ServerError:
    """Turn what redis-py raised into one line that names the server and the cause."""
    text = str(error).strip() or type(error).__name__
    lower = text.lower()
    where = f"Redis at {address}"
    match error:
        case OutOfMemoryError():
            line = f"{where} is out of memory: {text} Raise its maxmemory or lower the replay capacity."
        case ReadOnlyError():
            line = f"{where} is a read-only replica; the address of its primary is expected"
        case NoPermissionError():
            line = f"{where} does not permit this user what the run needs: {text}"
        case _ if is_refusal(error) or "noauth" in lower:
            asked = "noauth" in lower or "required" in lower
            line = f"{where} {'asks for a password' if asked else 'refused the password'}; set BORG_REDIS_PASSWORD"
        case BusyLoadingError():
            line = f"{where} is still loading its data; try again when it has"
        case RedisTimeoutError() | TimeoutError():
            line = f"{where} gave no answer in time: {text}"
        case RedisConnectionError() | OSError():
            line = f"{where} cannot be reached: {text}"
        case _:
            line = f"{where} answered with an error: {text}"
    return ServerError(line)


def explain(failure: BaseException, address: str) -> BorgError | None:
    """What a user can mend of what ended a service, in a group of errors or alone; None for a defect.

    The first of ours; else the first that redis-py raised, of the server at ``address``.
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
    """The errors that a task group's group of errors holds."""
    if isinstance(failure, BaseExceptionGroup):
        for inner in failure.exceptions:
            yield from leaves_of(inner)
    else:
        yield failure
