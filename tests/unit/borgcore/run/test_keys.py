import pytest

from borgcore.run.keys import RunKeys


def every_key(keys: RunKeys) -> list[str]:
    return [
        keys.slots,
        keys.priorities,
        keys.meta,
        keys.reports,
        keys.weights(),
        keys.weights(1),
        keys.weights(2),
        keys.lease(1),
        keys.lease(2),
    ]


@pytest.mark.parametrize("run", ["default", "a.b-c_d", "9"])
def test_all_keys_of_a_run_carry_its_hash_tag_and_differ(run: str) -> None:
    keys = every_key(RunKeys(run))
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(f"borg:{{{run}:r0}}:") for key in keys)


def test_two_runs_share_no_key() -> None:
    assert not set(every_key(RunKeys("one"))) & set(every_key(RunKeys("one2")))
