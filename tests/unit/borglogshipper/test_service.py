import tempfile
from pathlib import Path

import pytest

from borglogshipper.service import claim_member
from borglogshipper.settings import LogshipperSettings


async def test_a_replica_holds_its_name_without_blocking_the_loop_and_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the lock files are
    settings = LogshipperSettings(group="g")
    async with claim_member(settings) as first, claim_member(settings) as second:
        assert first.endswith("-1")
        assert second.endswith("-2")
    async with claim_member(settings) as again:
        assert again == first


async def test_a_name_that_is_given_is_taken_as_it_is() -> None:
    async with claim_member(LogshipperSettings(member="m-7")) as name:
        assert name == "m-7"
