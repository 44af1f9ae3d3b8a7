"""What every event is: the classes in training.py and monitoring.py list the fields for the logs and the stores.

``python -m borgcore.events.reference`` writes docs/events.md from it; the store's index templates are made from it. A
field that is None is left out of the JSON. A change that an old reader would misread raises :data:`SCHEMA_VERSION`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from borgcore.events.topics import Topic

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """What a field of a report is besides its type and docstring; whatever shows the field takes it from here."""

    kind: Literal["counter", "gauge", "rate", "share"]
    """A counter only grows, a gauge is the state now; a rate and a share are over the time since the report before."""
    label: str = ""
    """Heading of its column in the terminal's table, title of its panel's metric; no column without one."""
    text: str = ""
    """Format of its value in the terminal, with what stands before it."""
    metric: str | None = None
    """Name in Prometheus where it is not the field's own: of a share, the counter of seconds behind it; empty: none."""

    def describe(self, value: object) -> str:
        """Write a value as the terminal shows it; a dash where there is none."""
        return "-" if value is None else self.text.format(value)


class Event(BaseModel):
    """What a producer says; the publisher adds @timestamp, event_id, event, schema and run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    topic: ClassVar[Topic]
    name: ClassVar[str]
    """Value of the field ``event``: a past-tense noun_verb."""

    @classmethod
    def figures(cls) -> dict[str, Figure]:
        """Return the figures among the fields, by name, in their order."""
        found = {name: find_figure(info) for name, info in cls.model_fields.items()}
        return {name: figure for name, figure in found.items() if figure is not None}


def find_figure(info: FieldInfo) -> Figure | None:
    """Return the figure that a field is annotated with."""
    return next((one for one in info.metadata if isinstance(one, Figure)), None)
