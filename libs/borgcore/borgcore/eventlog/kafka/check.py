"""Checks Kafka's version and our permissions without joining a group, writing or creating anything."""

from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import ApiVersionRequest

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.client import address_of, create_topics, named_errors, open_admin
from borgcore.eventlog.kafka.metadata import READ, WRITE, ask_group_permissions, ask_topic_permissions
from borgcore.eventlog.kafka.retention import ask_retention, compaction_warning
from borgcore.events.monitoring import ShipperReported
from borgcore.events.topics import DEAD_LETTER, TOPICS
from borgcore.settings.sections import EventsSettings

Versions = Mapping[int, tuple[int, int]]
"""Lowest and highest version that a broker supports of each Kafka API, by the API's number."""
_PRODUCE, _FETCH, _METADATA, _JOIN_GROUP = 0, 1, 3, 11
_NEEDED = (
    ("Metadata", _METADATA, 10, "2.8", "the ids of topics"),
    ("JoinGroup", _JOIN_GROUP, 5, "2.3", "static members of a group"),
    ("Produce", _PRODUCE, 7, "2.1", "events compressed by zstd"),
)
_FETCH_OF_4_0 = 4  # lowest version of Fetch that Kafka 4.0 supports
_RELEASES = ((17, "3.9"), (15, "3.5"), (13, "3.1"), (0, "2.8"))  # by the highest supported version of Fetch
_READS = TOPICS
_WRITES = (ShipperReported.topic, DEAD_LETTER)


async def check_kafka(settings: EventsSettings, group: str | None) -> str:
    """Connect, authenticate and check; return a description of the cluster.

    If ``group`` is given, the permission to read as that group is checked too.

    Raises:
        SettingsError: the URL, the certificate file or the credentials are wrong.
        EventLogError: Kafka cannot be reached, refuses us, is too old, or denies a permission that reading needs.
    """
    where = address_of(settings)
    with named_errors(where, 5 * settings.timeout_s):
        async with open_admin(settings) as admin:
            release = find_release(await _ask_versions(admin), where)
            brokers = len((await admin.describe_cluster())["brokers"])
            missing = await _check_permissions(admin, settings, group)
            if missing:
                await create_topics(admin, settings, missing, only_ask=True)
            warnings = await _warn_of_compaction(admin, settings)
    found = f"{where}, {brokers} broker{'' if brokers == 1 else 's'}, version {release} or newer"
    notes = [f"topics to be created: {', '.join(missing)}"] if missing else []
    return "; ".join([found, *notes, *warnings])


def find_release(versions: Versions, where: str) -> str:
    """Return the oldest release that supports a broker's API versions; the protocol does not report the release.

    Raises:
        EventLogError: the broker is too old for us.
    """
    for name, api, needed, release, purpose in _NEEDED:
        _, highest = versions.get(api, (0, -1))
        if highest < needed:
            found = f"ends at version {highest}" if highest >= 0 else "is missing"
            raise EventLogError(
                f"{where} is too old for {purpose}: its API {name} {found}, expected {needed}, which Kafka {release} "
                "has; nothing was started"
            )
    lowest, highest = versions[_FETCH]
    if lowest >= _FETCH_OF_4_0:
        return "4.0"
    return next(release for fetch, release in _RELEASES if highest >= fetch)


async def _ask_versions(admin: AIOKafkaAdminClient) -> Versions:
    client = admin._client  # noqa: SLF001  # there is no public API
    reply = await client.send(client.get_random_node(), ApiVersionRequest())
    return {api: (lowest, highest) for api, lowest, highest in reply.api_versions}


async def _warn_of_compaction(admin: AIOKafkaAdminClient, settings: EventsSettings) -> list[str]:
    names = [settings.prefix + topic for topic in (*TOPICS, DEAD_LETTER)]
    retention = await ask_retention(admin._client, names)  # noqa: SLF001  # see above
    return [f"warning: {compaction_warning(name)}" for name in names if name in retention and retention[name].compacted]


async def _check_permissions(admin: AIOKafkaAdminClient, settings: EventsSettings, group: str | None) -> list[str]:
    """Raise EventLogError if a permission is denied; return the names of missing topics."""
    names = [settings.prefix + topic for topic in (*TOPICS, DEAD_LETTER)]
    permitted = await ask_topic_permissions(admin, names)
    denied = []
    for verb, operation, topics in (("read", READ, _READS), ("write", WRITE, _WRITES)):
        for name in (settings.prefix + topic for topic in topics):
            bits = permitted[name]
            if bits is not None and not bits >> operation & 1:
                denied.append(f"{verb} the topic {name}")
    if group is not None and not await ask_group_permissions(admin, group) >> READ & 1:
        denied.append(f"read as the group {group}")
    if denied:
        raise EventLogError(
            f"{address_of(settings)} denies this user permissions that are needed: to {', to '.join(denied)}; "
            "nothing is read until they are granted"
        )
    return [name for name in names if permitted[name] is None]
