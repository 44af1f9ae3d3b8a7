"""The ``borg-monitor`` program."""

import sys

from borgcore.service.runtime import run_service
from borgmonitor.service import serve
from borgmonitor.settings import MonitorSettings


def main() -> None:
    """Run the monitor; its settings come from command line, environment and TOML file."""
    sys.exit(run_service(serve, MonitorSettings))


if __name__ == "__main__":
    main()
