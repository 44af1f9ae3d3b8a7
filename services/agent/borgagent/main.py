"""The ``borg-agent`` program."""

import os
import sys

from borgagent.service import serve
from borgagent.settings import AgentSettings
from borgcore.service.runtime import run_service


def main() -> None:
    """Run one agent; its settings come from the command line, the environment, secret files and a TOML file.

    By the time the service returns, everything is closed and written. Only the compiler of the train step may still
    run in a thread that cannot be interrupted. Python would wait up to a minute for that thread, so the process exits
    without it.
    """
    code = run_service(serve, AgentSettings)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
