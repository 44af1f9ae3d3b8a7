import pytest
from hypothesis import given
from hypothesis import strategies as st

from borgagent.dqn.schedule import LADDER_FROM, agent_epsilon, geometric, ladder_epsilon


@pytest.mark.parametrize(("step", "value"), [(0, 1.0), (25, 0.1), (50, 0.01), (75, 0.001), (100, 1e-4), (10_000, 1e-4)])
def test_geometric_falls_by_one_factor_and_then_stays(step: int, value: float) -> None:
    assert geometric(1.0, 1e-4, 100, step) == pytest.approx(value)


@pytest.mark.parametrize(
    ("start", "end", "between"),
    [
        (0.0, 0.1, 10**-2.5),
        (0.1, 0.0, 10**-2.5),
        (0.1, 1e-300, 10**-2.5),
        (0.3, 0.3, 0.3),
        (0.0, 0.0, 0.0),
        (0.0, 1e-5, 1e-5),
        (5e-5, 1e-5, 5e-5),
    ],
)
def test_geometric_keeps_its_ends_even_where_they_are_zero_or_equal(start: float, end: float, between: float) -> None:
    assert [geometric(start, end, 100, step) for step in (0, 50, 100)] == pytest.approx([start, between, end])


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(1, 1_000_000), st.data())
def test_geometric_never_leaves_its_ends_and_never_turns(
    start: float, end: float, steps: int, data: st.DataObject
) -> None:
    at = sorted(data.draw(st.lists(st.integers(0, steps + 1), min_size=2, max_size=5)))
    values = [geometric(start, end, steps, step) for step in at]
    assert min(start, end) <= min(values) <= max(values) <= max(start, end)
    assert values == pytest.approx(sorted(values, reverse=start > end), abs=1e-12)


@pytest.mark.parametrize("end", [0.0, 1e-300, 1e-12, 0.002])
def test_nearly_all_is_explored_at_first_whatever_the_end(end: float) -> None:
    assert geometric(1.0, end, 250_000, 1) > 0.999
    assert geometric(1.0, end, 250_000, 25_000) > 0.39


@pytest.mark.parametrize(
    ("number", "agents", "value"),
    [
        (1, 8, 0.4),
        (2, 8, 0.4**2),
        (8, 8, 0.4**8),
        (1, 360, 0.4),  # Horgan et al. 2018: 360 actors, base 0.4, alpha 7
        (180, 360, 0.4 ** (1 + 7 * 179 / 359)),
        (360, 360, 6.5536e-4),
        (1, 1, 0.4),
    ],
)
def test_the_ladder_is_that_of_ape_x(number: int, agents: int, value: float) -> None:
    assert ladder_epsilon(number, agents) == pytest.approx(value)


def test_a_number_beyond_the_count_stands_on_the_lowest_rung() -> None:
    assert ladder_epsilon(9, 8) == ladder_epsilon(8, 8)


def test_few_agents_all_follow_the_annealed_value() -> None:
    assert {agent_epsilon(number=n, agents=LADDER_FROM - 1, annealed=0.03) for n in (1, 2, 3)} == {0.03}


def test_many_agents_stand_on_the_ladder_once_the_annealed_value_has_fallen_below_it() -> None:
    assert [agent_epsilon(number=n, agents=4, annealed=0.01) for n in (1, 2, 3, 4)] == [
        pytest.approx(0.4),
        pytest.approx(0.4 ** (1 + 7 / 3)),
        pytest.approx(0.01),
        pytest.approx(0.01),
    ]
    assert [agent_epsilon(number=n, agents=4, annealed=1.0) for n in (1, 4)] == [1.0, 1.0]
