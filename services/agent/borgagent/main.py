"""The ``borg-agent`` program."""

import os
import sys

from borgagent.service import serve
from borgagent.settings import AgentSettings
from borgcore.service.runtime import run_service


def main() -> None:
    """Run one agent; its settings come from command line, environment and TOML file.

    Everything is closed and written when the service has ended. What may still run is the compiler of the train step,
    which cannot be interrupted: Python would wait for its thread for up to a minute, so the process ends without.
    """
    code = run_service(serve, AgentSettings)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
