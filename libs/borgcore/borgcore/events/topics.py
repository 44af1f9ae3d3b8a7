"""The topics of the event log; separate from the event classes so that importing a name does not load pydantic."""

from typing import Literal, get_args

Topic = Literal["training_log", "memory_monitoring"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
DEAD_LETTER = "dead_letter"
RECORD_REFUSED = "record_refused"  # the event of every dead letter
DEAD_LETTER_CAP = 1_000  # entries of up to 133 kB in its Redis stream, which shares the replay memory's server
