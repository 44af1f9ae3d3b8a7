"""The ``borg-logshipper`` program."""

import gc
import sys

from borgcore.service.runtime import run_service
from borglogshipper.service import serve
from borglogshipper.settings import LogshipperSettings

OBJECTS = 15_000  # new ones until the collector looks: at 700 it walks the records under way again and again


def main() -> None:
    """Run one logshipper; its settings come from command line, environment and TOML file."""
    gc.set_threshold(OBJECTS)  # a third more documents a second, and memory as flat (bench/shipper.py)
    sys.exit(run_service(serve, LogshipperSettings))


if __name__ == "__main__":
    main()
