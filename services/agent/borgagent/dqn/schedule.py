"""Exploration: how epsilon falls over a run and differs between agents."""

LADDER_FROM = 4  # agents; with fewer, mostly greedy ones, the run as a whole would explore too little


LEAST = 1e-4  # no factor leads to 0, and one that leads near it would end all exploration with the first steps


def geometric(start: float, end: float, steps: int, step: int) -> float:
    """Interpolate from ``start`` at step 0 to ``end`` at ``steps``, by one factor per step; constant afterwards.

    An end below ``LEAST`` is approached as if it were ``LEAST``, and taken at the last step.
    """
    if step <= 0 or step >= steps:
        return start if step <= 0 else end
    share = step / steps
    value = max(start, LEAST) ** (1.0 - share) * max(end, LEAST) ** share
    return float(min(max(value, min(start, end)), max(start, end)))


def ladder_epsilon(number: int, agents: int, base: float = 0.4, exponent: float = 7.0) -> float:
    """Return epsilon of agent ``number`` (from 1) of ``agents``: base for the first, base**(1 + exponent) for the last.

    Source: Horgan et al. 2018, Distributed Prioritized Experience Replay (Ape-X), section 4.1.
    """
    rung = (min(number, agents) - 1) / max(1, agents - 1)
    return float(base ** (1.0 + exponent * rung))


def agent_epsilon(*, number: int, agents: int, annealed: float) -> float:
    """Return ``annealed`` if there are few agents, else the larger of it and the agent's rung of the ladder.

    While the annealed value is larger it holds, because the ladder's greedy end would explore too little at first.
    """
    if agents < LADDER_FROM:
        return annealed
    return max(annealed, ladder_epsilon(number, agents))
