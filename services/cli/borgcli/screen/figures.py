"""A run's figures, as a table and as a line."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from borgcli.screen.duration import format_duration
from borgcli.screen.progress import RunProgress
from borgcore.run.reports import AgentReport, LearnerReport
from borgcore.run.stats import ReplayStats

_UNKNOWN = "-"
_COLUMNS = ("agent", "steps", "steps/s", "episodes", "return 20", "return 100", "epsilon", "weights")


def render_table(progress: RunProgress, phase: str | None = None) -> RenderableType:
    """Render the agents as rows below the time and the phase, then the learner and the memory."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "agent" else "right", no_wrap=True)
    for report in progress.reports:
        table.add_row(*_cells(report), style="dim" if progress.silent(report) else None)
    lines = [Text(_head(progress), style="bold"), Text(phase or progress.phase, style="italic")]
    if progress.reports:
        lines.append(Text())
    below = [Text(line) for line in (_learner_line(progress), _memory_line(progress.stats)) if line]
    return Group(*lines, *([table] if progress.reports else []), *below)


def render_line(progress: RunProgress) -> str:
    """Render the same facts as one line."""
    agents = [
        "agent " + " ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS, _cells(report), strict=True))[6:]
        for report in progress.reports
    ]
    parts = [_head(progress), progress.phase, *agents, _learner_line(progress), _memory_line(progress.stats)]
    return " | ".join(part for part in parts if part)


def _head(progress: RunProgress) -> str:
    time = format_duration(progress.elapsed_s)
    if progress.for_s is not None:
        time += f", {format_duration(progress.for_s - progress.elapsed_s)} left"
    return f"{progress.run} ({progress.game}) {time}"


def _cells(report: AgentReport) -> tuple[str, ...]:
    return (
        f"{report.agent}{' * learner' if report.learner else ''}",
        f"{report.steps:,}",
        f"{report.steps_per_s:,.0f}",
        f"{report.episodes:,}",
        _format_return(report.mean_return(20)),
        _format_return(report.mean_return(100)),
        f"{report.epsilon:.3f}",
        f"{report.weights_version:,}",
    )


def _format_return(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"


def _learner_line(progress: RunProgress) -> str:
    learners = [report.learner for report in progress.reports if report.learner]
    return "; ".join(map(_describe_learner, learners))


def _describe_learner(learner: LearnerReport) -> str:
    return (
        f"learner: {learner.updates:,} updates of {learner.batch_size}, {learner.updates_per_s:.1f}/s, "
        f"{learner.updates_per_s * learner.batch_size:,.0f} samples/s, "
        f"loss {learner.loss:.4f}, mean Q {learner.mean_q:.3f}, waiting for data {learner.wait_share:.1%}, "
        f"for the limiter {learner.limiter_share:.1%}"
    )


def _memory_line(stats: ReplayStats | None) -> str:
    if stats is None:
        return ""
    return (
        f"memory: {stats.size:,} of {stats.capacity:,} transitions, {format_bytes(stats.bytes)}, "
        f"{stats.bytes_per_transition:.0f} bytes each, {stats.samples_per_insert:.2f} samples per insert"
    )


def format_bytes(count: float) -> str:
    """Write a size in the unit that suits it: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004  # KiB
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
