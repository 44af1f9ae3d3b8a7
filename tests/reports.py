"""Reports as the tests make them: what a test does not name is as a quiet agent has it."""

from typing import Any

from borgcore.events.training import LearnerReported
from borgcore.run.reports import AgentReport

LEARNER = LearnerReported(
    agent=1,
    updates=9,
    updates_per_s=8.0,
    samples_per_s=512.0,
    batch_size=64,
    loss=0.5,
    mean_q=0.25,
    wait_share=0.01,
    limiter_share=0.02,
)
QUIET: dict[str, Any] = {
    "agent": 1,
    "agents": 1,
    "pid": 2,
    "at_s": 3.5,
    "steps": 4,
    "steps_per_s": 5.0,
    "episodes": 2,
    "return_20": None,
    "epsilon": 0.5,
    "weights_version": 7,
    "weights_age_s": None,
    "pause_share": 0.1,
    "stale": 0,
    "corrupt": 0,
    "events_dropped": 0,
}


def report_of(**fields: object) -> AgentReport:
    return AgentReport(**(QUIET | fields))
