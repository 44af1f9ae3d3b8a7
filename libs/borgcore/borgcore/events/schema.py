"""What every event is: the classes in training.py and monitoring.py list the fields for the logs and the stores.

``python -m borgcore.events.reference`` writes docs/events.md from it; the store's index templates are made from it. A
field that is None is left out of the JSON. A change that an old reader would misread raises :data:`SCHEMA_VERSION`.
"""

from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1

Topic = Literal["training_log", "memory_monitoring"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
DEAD_LETTER = "dead_letter"
DEAD_LETTER_CAP = 1_000  # of a Redis stream, where the replay memory lives, too: the largest letters have 133 kB each


class Event(BaseModel):
    """What a producer says; the publisher adds @timestamp, event_id, event, schema and run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    topic: ClassVar[Topic]
    name: ClassVar[str]
    """Value of the field ``event``: a past-tense noun_verb."""
