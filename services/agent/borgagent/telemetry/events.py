"""An agent's progress as events for the log."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch

from borgagent.dqn.actor import Rollout
from borgagent.dqn.presets import choose_preset
from borgagent.telemetry.redaction import redact
from borgagent.telemetry.state import AgentState
from borgcore.connection.failures import leaves_of, user_error
from borgcore.eventlog.publisher import Publisher
from borgcore.events.training import EpisodeEnded, RunEnded, RunStarted
from borgcore.run.reports import AgentReport

_VERSION = version("borgagent")  # looks at the disk


@contextmanager
def publish_run(publisher: Publisher, state: AgentState, device: torch.device, address: str) -> Iterator[None]:
    """Publish that the run begins, and at the end of the block that it ends, and why; Redis is at ``address``."""
    publisher.agent = state.membership.number
    publisher.publish(run_started(state, device))
    reason = "asked"
    try:
        yield
    except BaseException as error:
        reason = describe_end(error, address)
        raise
    finally:
        publisher.publish(run_ended(state, reason))


def publish_report(publisher: Publisher, report: AgentReport) -> None:
    """Publish what a report says of the agent, and of its learner where it has one."""
    publisher.agent = report.agent  # another than before, where it was elected
    for event in report.events:
        publisher.publish(event)


def run_started(state: AgentState, device: torch.device) -> RunStarted:
    """The run as this process begins it, or goes on with it."""
    settings = state.settings
    return RunStarted(
        agent=state.membership.number,
        pid=os.getpid(),
        game=settings.game,
        preset=choose_preset(settings.preset, settings.game, cuda=device.type == "cuda"),
        learn=settings.learn,
        device=device.type,
        version=_VERSION,
        settings=redact(settings),
    )


def run_ended(state: AgentState, reason: str) -> RunEnded:
    """What this process has come to."""
    return RunEnded(
        agent=state.membership.number,
        pid=os.getpid(),
        steps=state.acting.steps,
        episodes=state.acting.episodes,
        duration_s=round(time.monotonic() - state.began_s, 3),
        reason=reason,
    )


def describe_end(error: BaseException, address: str) -> str:
    """The one line that the process leaves; of a defect its kind, the rest is in the service's own log."""
    explained = user_error(error, address)
    if explained is not None:
        return " ".join(str(explained).split())
    if not isinstance(error, Exception):
        return "cut off before it had finished"
    return f"a defect: {type(next(leaves_of(error))).__name__}"


def episodes_ended(state: AgentState, rollout: Rollout, weights_version: int) -> list[EpisodeEnded]:
    """The episodes that ended in a chunk of play that is not counted yet."""
    acting = state.acting
    return [
        EpisodeEnded(
            agent=state.membership.number,
            episode=number,
            episode_return=episode.score,
            episode_steps=episode.steps,
            truncated=episode.truncated,
            steps=acting.steps + episode.ended_at,
            inserted=state.replay.inserted,
            epsilon=acting.epsilon,
            weights_version=weights_version,
        )
        for number, episode in enumerate(rollout.episodes, acting.episodes + 1)
    ]
