"""The base of all events; the classes in training.py and monitoring.py list the fields for the logs and the stores.

docs/events.md and the store's index templates are generated from these classes. A field that is None is left out of the
JSON. A change that an old reader would misread raises :data:`SCHEMA_VERSION`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from borgcore.events.topics import Topic

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """Metadata of a number that is reported periodically; its help text is the docstring of the field.

    The report in Redis, the Prometheus metrics, the terminal, docs/events.md and the dashboard all use it.
    """

    kind: Literal["counter", "gauge", "rate", "share"]
    """A counter only grows; a gauge is the current value; rate and share are over the time since the last report."""
    unit: str
    """What is counted or measured; 1 for a plain number."""
    label: str = ""
    """Heading of its column in the terminal and name of its line in the dashboard; without one it has no column."""
    template: str = ""
    """Format string of its value in the terminal, including the text around it."""
    metric: str | None = None
    """Prometheus name without ``_total``; None derives it from the field's name, empty exports no metric.

    A share names the counter of seconds it is computed from.
    """

    def render(self, value: object) -> str:
        """Return the value as the terminal shows it; a dash for None."""
        return "-" if value is None else self.template.format(value)


class Event(BaseModel):
    """What a producer publishes; the publisher adds @timestamp, event_id, event, schema and run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    topic: ClassVar[Topic]
    name: ClassVar[str]
    """Value of the field ``event``: a past-tense noun_verb."""

    @classmethod
    def figures(cls) -> dict[str, Figure]:
        """Return the figures among the fields by name, in order of declaration."""
        found = {name: find_figure(info) for name, info in cls.model_fields.items()}
        return {name: figure for name, figure in found.items() if figure is not None}

    @classmethod
    def help_text(cls, field: str) -> str:
        """Return the docstring of a field on one line."""
        return " ".join((cls.model_fields[field].description or "").split())


def find_figure(info: FieldInfo) -> Figure | None:
    """Return the figure with which a field is annotated, or None."""
    return next((one for one in info.metadata if isinstance(one, Figure)), None)
