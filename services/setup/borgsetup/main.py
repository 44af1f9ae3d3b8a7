"""The ``borg-setup`` program: one step of preparing the full stack."""

import sys

from anyio import CancelScope, to_thread

from borgcore.errors import BorgError
from borgcore.service.runtime import run_service
from borgsetup.dashboard import import_dashboard
from borgsetup.functions import prepare_redis
from borgsetup.keys import make_keys, read_password
from borgsetup.settings import SetupSettings
from borgsetup.store import prepare_store
from borgsetup.topics import prepare_topics


async def serve(settings: SetupSettings, intake: CancelScope) -> None:
    """Run the step that the settings name; a step that is stopped leaves what it has done so far.

    Raises:
        BorgError: the step failed, or was stopped before it was done.
    """
    with intake:
        match settings.step:
            case "keys":
                await to_thread.run_sync(make_keys, settings.keys_dir, settings.run)
            case "functions":
                await prepare_redis(settings)
            case "topics":
                await prepare_topics(settings)
            case "store":
                await prepare_store(settings)
            case "dashboard":
                await import_dashboard(settings)
            case "password":
                sys.stdout.write(f"{await to_thread.run_sync(read_password, settings.keys_dir)}\n")
    if intake.cancelled_caught:
        raise BorgError(f"the step {settings.step} was stopped before it was done; run it again")


def main() -> None:
    """Run one step; its settings come from command line, environment and TOML file."""
    sys.exit(run_service(serve, SetupSettings))


if __name__ == "__main__":
    main()
