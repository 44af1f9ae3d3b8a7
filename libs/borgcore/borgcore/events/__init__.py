"""Publish to and consume from the event log; its URL chooses Kafka or Redis Streams."""

from borgcore.events.choice import check_log, open_consumer
from borgcore.events.log import Chunk, Consumer, Partition, Position
from borgcore.events.publisher import Publisher, open_publisher
from borgcore.events.schema import DEAD_LETTER, SCHEMA_VERSION, TOPICS, Event, Topic
from borgcore.events.streams import backlog

__all__ = [
    "DEAD_LETTER",
    "SCHEMA_VERSION",
    "TOPICS",
    "Chunk",
    "Consumer",
    "Event",
    "Partition",
    "Position",
    "Publisher",
    "Topic",
    "backlog",
    "check_log",
    "open_consumer",
    "open_publisher",
]
