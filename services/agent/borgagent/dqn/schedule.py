"""How exploration changes as a run goes on."""


def geometric(start: float, end: float, steps: int, step: int) -> float:
    """From ``start`` at step 0 to ``end`` at ``steps`` by the same factor with every step, constant afterwards."""
    share = min(1.0, step / steps)
    return float(start ** (1.0 - share) * end**share)


def ladder_epsilon(number: int, agents: int, base: float = 0.4, exponent: float = 7.0) -> float:
    """Epsilon of agent ``number`` (from 1) among ``agents``: from base down to base**(1 + exponent).

    Source: Horgan et al. 2018, Distributed Prioritized Experience Replay (Ape-X), section 4.1.
    """
    rung = (min(number, agents) - 1) / max(1, agents - 1)
    return float(base ** (1.0 + exponent * rung))


LADDER_FROM = 4  # agents; fewer explore too little in sum when most of them are nearly greedy


def agent_epsilon(*, number: int, agents: int, annealed: float) -> float:
    """The annealed epsilon with few agents; with many, the larger of it and the agent's rung.

    The ladder's greedy end would stop exploring before anything is learned, so the annealed value holds while larger.
    """
    if agents < LADDER_FROM:
        return annealed
    return max(annealed, ladder_epsilon(number, agents))
