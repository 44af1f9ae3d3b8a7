"""Which records a topic takes: Kafka's limit of bytes, and the errors that mean a record can never be taken."""

import re
from collections.abc import Collection

from aiokafka import errors
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, named_errors, open_admin
from borgcore.eventlog.protocol import Outgoing, Refusal
from borgcore.settings.sections import EventsSettings

REQUEST_BYTES = 1 << 24  # our own limit; Kafka applies its own to the compressed size
_SETTING = "max.message.bytes"


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """A record does not fit its topic, such as one without a key in a compacted topic; aiokafka lacks this error."""

    errno = 87
    message = "INVALID_RECORD"
    description = "This record has failed the validation on the broker and hence will be rejected."


errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_REFUSALS = (
    *_TOO_LARGE,
    InvalidRecordError,
    errors.InvalidTimestampError,
    errors.InvalidTopicError,
    errors.PolicyViolationError,
    errors.UnsupportedForMessageFormatError,
)
_is_topic = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}").fullmatch


def is_refused(error: BaseException) -> bool:
    """Return whether Kafka refuses a batch for one of its records, or for its size."""
    return isinstance(error, _REFUSALS)


def is_too_large(error: BaseException) -> bool:
    """Return whether Kafka refuses a batch for its size."""
    return isinstance(error, _TOO_LARGE)


def refuse_unsent(topic: str, event: Outgoing) -> Refusal | None:
    """Return why an event can never be sent to ``topic``, without asking Kafka."""
    if not _is_topic(topic):
        return Refusal(f"{topic!r} is no name that a Kafka topic can have")
    if (found := _size(event)) > REQUEST_BYTES:
        text = f"it is too large for the topic {topic}: {found} bytes, at most {REQUEST_BYTES} are sent in a request"
        return Refusal(text, REQUEST_BYTES)
    return None


def refuse(topic: str, event: Outgoing, error: BaseException, limit_bytes: int | None) -> Refusal:
    """Return why Kafka refused a batch with this event alone."""
    name = type(error).__name__
    if not is_too_large(error):
        return Refusal(f"the topic {topic} refused it: {' '.join(str(error).split())} ({name})")
    batch = DefaultRecordBatchBuilder(2, DefaultRecordBatch.CODEC_ZSTD, 0, -1, -1, 0, 0)
    batch.append(0, None, event.key, event.value, [])
    expected = "more than it takes" if limit_bytes is None else f"it takes at most {limit_bytes} ({_SETTING})"
    text = f"the topic {topic} refused it: {name}, {len(batch.build())} bytes as a compressed batch, {expected}"
    return Refusal(text, limit_bytes)


async def read_limits(settings: EventsSettings, topics: Collection[str]) -> dict[str, int]:
    """Ask for the limits of topics; those that Kafka does not tell us are left out."""
    wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, {_SETTING: None}) for topic in topics]
    try:
        with named_errors(address_of(settings), 3 * settings.timeout_s):
            async with open_admin(settings) as admin:
                replies = await admin.describe_configs(wanted)
    except EventLogError:  # an outage is found again by the next send
        return {}
    resources = [resource for reply in replies for resource in reply.resources]
    return {name: int(entries[0][1]) for code, _, _, name, entries in resources if code == 0 and entries}


def _size(event: Outgoing) -> int:
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(event.key, event.value, []))
