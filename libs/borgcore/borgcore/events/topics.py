"""The topics of the event log. Apart from the events' classes, so that naming one does not load pydantic."""

from typing import Literal, get_args

Topic = Literal["training_log", "memory_monitoring"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
DEAD_LETTER = "dead_letter"
DEAD_LETTER_CAP = 1_000  # entries of its Redis stream, which shares the replay memory's server; each up to 133 kB
