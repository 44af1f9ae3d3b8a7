"""What a panel of the dashboard is: an event, metrics of its fields, and how they are drawn."""

from dataclasses import dataclass
from typing import Literal

from borgcore.events.schema import Event
from borgcore.events.topics import Topic
from borgsetup.kibana.format import NumberFormat, axis_title, in_words, number_format

TIME = "@timestamp"
GRID_COLUMNS = 48  # in every dashboard of Kibana
DATA_VIEWS: dict[Topic, str] = {"training_log": "borg-training-log", "memory_monitoring": "borg-memory-monitoring"}
"""Id of the data view of a topic's indices."""

Operation = Literal["average", "max", "sum", "count"]
Chart = Literal["line", "area_stacked", "bar_stacked", "number", "table"]


@dataclass(frozen=True)
class Metric:
    """One number, computed over the events at the same point of the chart."""

    operation: Operation
    field: str | None
    """Field of the event; None counts events."""
    label: str = ""
    """If empty, the label of the figure as its event defines it."""
    newest: str | None = None
    """Use only the end of the time range, such as ``1m``, to show the present; for panels without an x-axis."""


@dataclass(frozen=True)
class Panel:
    """One chart, single number or table of the dashboard."""

    title: str
    description: str | None
    """None: the help text of the first metric's field."""
    event: type[Event]
    metrics: tuple[Metric, ...]
    chart: Chart = "line"
    split: tuple[str, ...] = ()
    """Fields that get one line per value, or one row in a table."""
    x: str = TIME
    """Field of the x-axis, a time or a number; numbers and tables have no axis."""
    x_title: str = "Time"

    @property
    def help_text(self) -> str:
        """The description, or the help text of the first metric's field."""
        return self.description or self.event.help_text(self.metrics[0].field or "")

    def label_of(self, metric: Metric) -> str:
        """Return the label of one of its metrics."""
        return in_words(metric.label or self.event.figures()[metric.field or ""].label)

    def format_of(self, metric: Metric) -> NumberFormat | None:
        """Return the format of one of its metrics; None for a time."""
        return number_format(self.event, metric.field, averaged=metric.operation == "average")

    @property
    def y_title(self) -> str:
        """Title of the y-axis: the unit of the metrics, or what they are."""
        titles = [axis_title(self.event, metric.field, self.label_of(metric)) for metric in self.metrics]
        return ", ".join(dict.fromkeys(titles))

    @property
    def split_title(self) -> str:
        """What distinguishes the lines: the title of the legend; empty without a split."""
        return ", ".join(map(in_words, self.split))

    @property
    def id(self) -> str:
        """The title as an id."""
        return "-".join(self.title.lower().replace(",", "").split())

    @property
    def has_axis(self) -> bool:
        """Whether it is drawn along an x-axis."""
        return self.chart not in {"number", "table"}


@dataclass(frozen=True)
class Row:
    """Panels side by side, of equal width."""

    height: int
    """Units of the grid."""
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Place:
    """Position and size of a panel, in units of the grid from the top left."""

    x: int
    y: int
    w: int
    h: int


def place_panels(rows: tuple[Row, ...]) -> list[tuple[Panel, Place]]:
    """Place the panels of each row side by side, and the rows below each other."""
    placed, y = [], 0
    for row in rows:
        width = GRID_COLUMNS // len(row.panels)
        placed += [(panel, Place(i * width, y, width, row.height)) for i, panel in enumerate(row.panels)]
        y += row.height
    return placed
