"""The agent: claims a number, plays, pushes, and learns where that is its role."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import anyio
import numpy as np
import structlog
import torch
from anyio import CancelScope, create_memory_object_stream, to_thread
from anyio.abc import TaskGroup
from redis.asyncio import Redis

from borgagent.dqn.actor import Actor, Rollout
from borgagent.dqn.environment import open_environment
from borgagent.dqn.learner import Learner, choose_device
from borgagent.dqn.network import QNetwork
from borgagent.dqn.schedule import agent_epsilon, geometric
from borgagent.settings import AgentOverrides, AgentSettings
from borgagent.stages.acting import act, follow, push
from borgagent.stages.checkpoint import load_checkpoint
from borgagent.stages.election import LearnerNotNeeded, join
from borgagent.stages.learning import Learning
from borgagent.telemetry.events import episodes_ended, publish_run
from borgagent.telemetry.metrics import agent_metrics
from borgagent.telemetry.reporting import Reporter
from borgagent.telemetry.state import AgentState
from borgcore.connection.client import address_of, open_redis
from borgcore.errors import CorruptDataError
from borgcore.eventlog.metrics import publisher_metrics
from borgcore.eventlog.publisher import Publisher, open_publisher
from borgcore.replay import ReplaySpec, Transition, open_replay
from borgcore.run.weights import decode_weights, fetch_weights, weights_size_limit
from borgcore.service.health import Health, open_health

_MAX_PENDING = 2  # chunks of play waiting to be pushed
_log = structlog.get_logger()


async def serve(settings: AgentSettings, intake: CancelScope) -> None:
    """Play and learn until ``intake`` is cancelled, then push what was played and finish what was sampled.

    Raises:
        ServerError: Redis was away, or gave no answer, for longer than the settings allow.
    """
    torch.set_num_threads(settings.learner.threads)
    one_copy = settings.environment.model_copy(update={"envs": 1})
    actions = len((await to_thread.run_sync(open_environment, settings.game, one_copy)).actions_A)
    spec = settings.spec(actions)
    device = choose_device(settings.device)
    async with (
        open_health(settings.health_address) as health,
        open_publisher(settings.events, settings.run, settings.service) as publisher,
        open_redis(settings.redis) as redis,
    ):
        health.export(partial(publisher_metrics, publisher))
        with suppress(LearnerNotNeeded):
            await _take_part(redis, settings, intake, spec=spec, device=device, publisher=publisher, health=health)


async def _take_part(
    redis: Redis,
    settings: AgentSettings,
    intake: CancelScope,
    *,
    spec: ReplaySpec,
    device: torch.device,
    publisher: Publisher,
    health: Health,
) -> None:
    async with (
        open_replay(redis, settings.run, spec, settings.seeded_replay) as replay,
        join(redis, settings, intake) as membership,
    ):
        state = AgentState(settings, membership, replay)
        health.export(partial(agent_metrics, state))
        reporter = Reporter(redis, publisher, state)
        with publish_run(publisher, state, device, address_of(redis)):
            async with anyio.create_task_group() as background:
                background.start_soon(membership.hold)
                background.start_soon(reporter.publish)
                background.start_soon(reporter.write)
                background.start_soon(reporter.keep_ready, health)
                await Agent(redis, publisher, state, spec, device).work(intake, background)
                background.cancel_scope.cancel()


class Agent:
    """What the stages of one agent share."""

    def __init__(
        self, redis: Redis, publisher: Publisher, state: AgentState, spec: ReplaySpec, device: torch.device
    ) -> None:
        self._redis = redis
        self._publisher = publisher
        self._state = state
        self._settings = state.settings
        self._membership = state.membership
        self._replay = state.replay
        self._spec = spec
        self._device = device

    async def work(self, intake: CancelScope, background: TaskGroup) -> None:
        """Run the stages; cancelling ``intake`` ends playing and sampling, and the rest runs dry behind them."""
        send, receive = create_memory_object_stream[list[Transition]](_MAX_PENDING)
        plays, may_learn = self._settings.learn != "only", self._settings.learn != "never"
        actor, acting = await to_thread.run_sync(self._actor) if plays else None, self._state.acting
        async with anyio.create_task_group() as stages:
            stages.start_soon(push, self._replay, receive)
            async with send:
                with intake:
                    async with anyio.create_task_group() as readers:
                        if actor is not None:
                            background.start_soon(follow, self._redis, self._weights_key(), actor, acting)
                            readers.start_soon(act, actor, self._wait_for_turn, send, acting, self._epsilon, self._take)
                        if may_learn:
                            readers.start_soon(self._learn, stages)

    async def _wait_for_turn(self) -> bool:
        """Wait for the rate limiter; the agent that learns leaves playing to the others as far as they keep up."""
        return await self._replay.wait_to_insert(gives_way=self._membership.learns.is_set())

    def _take(self, rollout: Rollout, weights_version: int) -> None:
        for event in episodes_ended(self._state, rollout, weights_version):
            self._publisher.publish(event)
        self._state.acting.take(rollout)

    async def _learn(self, stages: TaskGroup) -> None:
        learner = await to_thread.run_sync(self._learner)  # torch takes seconds over its first optimiser: ahead of need
        await self._membership.learns.wait()
        owner = self._owner()
        await to_thread.run_sync(self._resume, learner)
        await self._catch_up(learner)
        learning = Learning(self._redis, self._replay, learner, self._settings, spec=self._spec, owner=owner)
        self._state.learning = learning.progress
        await learning.run(stages)

    def _network(self) -> QNetwork:
        view = self._spec
        torch.manual_seed(self._settings.seed)  # one initial network for all agents of a run
        network = QNetwork(self._settings.network, view.stack, view.height, view.width, view.actions)
        return network.to(self._device)

    def _actor(self) -> Actor:
        number, settings = self._membership.number, self._settings
        own = self._overrides()
        view = settings.environment if own.envs is None else settings.environment.model_copy(update={"envs": own.envs})
        entropy = [settings.seed, number] if own.seed is None else [own.seed]
        seed = draw_seed([*entropy, self._replay.inserted])  # a resumed run plays on instead of playing again
        environment = open_environment(settings.game, view)
        return Actor(environment, self._network().requires_grad_(requires_grad=False), settings.actor, seed)

    def _learner(self) -> Learner:
        return Learner(self._network(), self._settings.learner, self._device)

    def _resume(self, learner: Learner) -> None:
        settings = self._settings
        folder = settings.checkpoints_of(self._owner())
        if load_checkpoint(folder, learner, settings.network, self._spec):
            _log.info("checkpoint_loaded", path=str(folder), updates=learner.updates)

    async def _catch_up(self, learner: Learner) -> None:
        """Where published weights are newer than the checkpoint, go on from them, with the checkpoint's optimiser."""
        shapes = {name: tuple(tensor.shape) for name, tensor in learner.online.state_dict().items()}
        limit = weights_size_limit(shapes)
        try:
            newer = await fetch_weights(self._redis, self._weights_key(), learner.updates + 1, limit)
            if newer is not None:
                learner.take_weights(decode_weights(newer.data, shapes))
                learner.updates = newer.version - 1
                _log.info("weights_taken_over", updates=learner.updates)
        except CorruptDataError as error:
            _log.warning("weights_refused", reason=str(error), consequence="learning goes on from the checkpoint")

    def _epsilon(self) -> float:
        """Epsilon at the run's present number of transitions."""
        actor, own = self._settings.actor, self._overrides()
        if own.epsilon is not None:
            return own.epsilon
        annealed = geometric(actor.epsilon_start, actor.epsilon_end, actor.epsilon_steps, self._replay.inserted)
        return agent_epsilon(number=self._membership.number, agents=self._membership.agents, annealed=annealed)

    def _overrides(self) -> AgentOverrides:
        return self._settings.agents.get(self._membership.number, AgentOverrides())

    def _owner(self) -> int | None:
        """Whose weights and checkpoints: the run's, or this agent's own."""
        return self._membership.number if self._settings.learn == "private" else None

    def _weights_key(self) -> str:
        return self._settings.keys.weights(self._owner())


def draw_seed(entropy: Sequence[int]) -> int:
    """A seed for copies that are seeded seed, seed + 1 …: far from those of other entropy, and with room above it."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) >> 2
