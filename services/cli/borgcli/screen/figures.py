"""The figures of a run as a table and as a line."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from borgcli.screen.duration import format_duration
from borgcli.screen.progress import RunProgress
from borgcore.events.training import AgentReported, LearnerReported
from borgcore.run.reports import AgentReport
from borgcore.run.stats import ReplayStats

_AGENT = {name: figure for name, figure in AgentReported.figures().items() if figure.label}
_LEARNER = LearnerReported.figures()
_LONG = 100  # episodes of the second mean return, which is computed here; no event has it


def render_table(progress: RunProgress, phase: str | None = None) -> RenderableType:
    """Render the agents as rows below the time and the phase, then the learner and the memory."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for report in progress.reports:
        cells = _cells(report)
        if not table.columns:
            for name in cells:
                table.add_column(name, justify="left" if name == "agent" else "right", no_wrap=True)
        table.add_row(*cells.values(), style="dim" if progress.silent(report) else None)
    lines = [Text(_head(progress), style="bold"), Text(phase or progress.phase, style="italic")]
    if progress.reports:
        lines.append(Text())
    below = [Text(line) for line in (_learner_line(progress), _memory_line(progress.stats)) if line]
    return Group(*lines, *([table] if progress.reports else []), *below)


def render_line(progress: RunProgress) -> str:
    """Render the same facts as one line."""
    agents = [" ".join(f"{name} {cell}" for name, cell in _cells(report).items()) for report in progress.reports]
    parts = [_head(progress), progress.phase, *agents, _learner_line(progress), _memory_line(progress.stats)]
    return " | ".join(part for part in parts if part)


def _head(progress: RunProgress) -> str:
    time = format_duration(progress.elapsed_s)
    if progress.for_s is not None:
        time += f", {format_duration(progress.for_s - progress.elapsed_s)} left"
    return f"{progress.run} ({progress.game}) {time}"


def _cells(report: AgentReport) -> dict[str, str]:
    """Return an agent's cells by column: labelled figures, and after return_20 the mean over more episodes."""
    cells = {"agent": f"{report.agent}{' * learner' if report.learner else ''}"}
    for name, figure in _AGENT.items():
        cells[figure.label] = figure.render(getattr(report, name))
        if name == "return_20":
            cells[f"return {_LONG}"] = figure.render(report.mean_return(_LONG))
    return cells


def _learner_line(progress: RunProgress) -> str:
    learners = [report.learner for report in progress.reports if report.learner]
    return "; ".join(map(_describe_learner, learners))


def _describe_learner(learner: LearnerReported) -> str:
    return "learner: " + "".join(figure.render(getattr(learner, name)) for name, figure in _LEARNER.items())


def _memory_line(stats: ReplayStats | None) -> str:
    if stats is None:
        return ""
    return (
        f"memory: {stats.size:,} of {stats.capacity:,} transitions, {format_bytes(stats.bytes)}, "
        f"{stats.bytes_per_transition:.0f} bytes each, {stats.samples_per_insert:.2f} samples per insert"
    )


def format_bytes(count: float) -> str:
    """Return a size in the largest unit that fits: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004  # KiB
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
