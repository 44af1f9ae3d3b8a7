from pathlib import Path

import anyio
import pytest

from borgcli.launch.valkey import open_valkey
from borgcore.errors import ServerError
from borgcore.run.folder import RunFolder
from tests.limits import HANG_S


async def test_a_log_that_cannot_be_written_is_one_line_not_a_traceback(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    log = folder.valkey / "valkey.log"
    log.mkdir(parents=True)  # as a disk without space, it fails after all is prepared
    with anyio.fail_after(HANG_S), pytest.raises(ServerError) as refused:
        async with open_valkey(folder, None, print):
            pass
    assert str(refused.value) == f"cannot start Valkey: {log}: Is a directory"
