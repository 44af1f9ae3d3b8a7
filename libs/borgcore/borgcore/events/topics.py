"""The topics of the event log; separate from the event classes so that importing a name does not load pydantic."""

from datetime import datetime
from typing import Literal, get_args

Topic = Literal["training_log", "memory_monitoring"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
DEAD_LETTER = "dead_letter"
RECORD_REFUSED = "record_refused"  # the event of every dead letter
DEAD_LETTER_CAP = 1_000  # entries of up to 133 kB in its Redis stream, which shares the replay memory's server


def index_name(topic: str, at: datetime) -> str:
    """Return the index of a topic's documents of the month of ``at``, which is in UTC: ``training_log-2026.11``."""
    return f"{topic}-{at:%Y.%m}"
