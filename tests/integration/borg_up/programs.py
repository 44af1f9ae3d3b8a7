"""Programs for the tests of ``borg up``: a driver that runs borg with stand-ins, and the code that stand-ins share."""

# The real borg, with real agents, that gives them and the last events as long as a slow machine takes.
BORG = """
from dataclasses import replace
from borgcli import main
from borgcli.launch import last_events, specs, supervisor

last_events.SHIPPING_S = 120.0
specs.HELPER_GRACE_S = supervisor.HELPER_GRACE_S = 120.0
run_up = supervisor.run_up
supervisor.run_up = lambda plan, display: run_up(replace(plan, grace_s=120.0), display)
main.main()
"""

# Runs borg with the program named by the first argument as its agent, and with monitor.py and logshipper.py of the
# working directory if they exist.
DRIVER = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from blockbuster import BlockBuster
from borgcli import main
from borgcli.launch import group, last_events, session, supervisor
from borgcli.launch.specs import ChildSpec, ChildSpecs

detector = BlockBuster(scanned_modules=["borgcore", "borgcli"])  # the launcher must not block its loop either
detector.functions["io.BufferedWriter.write"].can_block_in("rich/console.py", {"_write_buffer"})  # but by the display
detector.activate()
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as under a terminal, even where nohup runs the tests
program = sys.argv.pop(1)
group._FIRST_BACKOFF_S = 0.05
last_events._SILENT_S = 0.0
last_events.SHIPPING_S = float(os.environ.get("TEST_BORG_SHIPPING_S", "120"))
session._ONE_PRESS_S = float(os.environ.get("TEST_BORG_ONE_PRESS_S", session._ONE_PRESS_S))
supervisor.HELPER_GRACE_S = float(os.environ.get("TEST_BORG_HELPER_GRACE_S", "120"))
if {"TEST_BORG_GRACE_S", "TEST_BORG_HELPER_GRACE_S"} & set(os.environ):
    group._LATE_S = 0.0
there = {path.name for path in Path().iterdir()}

def staff(plan, redis):
    def hire(file, name, log):
        return [ChildSpec(name, [sys.executable, file, plan.folder.run, redis.url], log)] if file in there else []

    folder, slots = plan.folder, range(1, plan.record.agents + 1)
    agents = [hire(program, f"agent process {slot}", folder.agent_log(slot))[0] for slot in slots]
    monitors = hire("monitor.py", "the monitor", folder.monitor_log)
    return ChildSpecs(agents, monitors, hire("logshipper.py", "the logshipper", folder.logshipper_log))

run_up = supervisor.run_up
supervisor.run_up = lambda plan, display: run_up(
    replace(plan, grace_s=float(os.environ.get("TEST_BORG_GRACE_S", "120"))), display, staff
)
main.main()
"""

# The start of every stand-in agent: it can write a report, and drains on SIGTERM.
AGENT = """
import json, os, signal, sys, time
from redis import Redis

run, url = sys.argv[1:]
redis = Redis.from_url(url, password=os.environ["BORG_REDIS_PASSWORD"])
number = redis.incr("agents-started")

def report(returns=(), learner=None, epsilon=0.5):
    now = time.time()
    written = {"agent": number, "agents": 1, "pid": os.getpid(), "at_s": now, "steps": 10, "steps_per_s": 5.0,
               "episodes": 1, "return_20": None, "epsilon": epsilon, "weights_version": 1, "weights_age_s": None,
               "pause_share": 0.0, "stale": 0, "corrupt": 0, "events_dropped": 0,
               "recent": [(now + i, value) for i, value in enumerate(returns)],
               "learner": learner}
    redis.hset("borg:{" + run + ":r0}:reports", str(number), json.dumps(written))

def drain(*_):
    redis.incr("agents-drained")
    print("drained", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, drain)
"""
PLAYS = "report()\nredis.incr('agents-ready')\nsignal.pause()\n"

# An agent that publishes an event while it drains.
SAYS_LAST = """
def drain(*_):
    redis.xadd("borg:{" + run + ":r0}:events:training_log", {"v": "{}"})
    open("order", "a").write("agent ")
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
"""

# The start of every stand-in monitor and logshipper.
HELPER = """
import os, signal, sys, time
from pathlib import Path
from redis import Redis

run, url = sys.argv[1:]
redis = Redis.from_url(url, password=os.environ["BORG_REDIS_PASSWORD"])
name = Path(sys.argv[0]).stem

def end(*_):
    open("order", "a").write(name + " ")
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
redis.incr(name + "-ready")
"""
WATCHES = "signal.pause()\n"

# A slow logshipper.
SHIPS = """
stream, group = "borg:{" + run + ":r0}:events:training_log", "borg-logshipper"
if not redis.exists(stream) or not redis.xinfo_groups(stream):
    redis.xgroup_create(stream, group, id="0", mkstream=True)
while True:
    for _, entries in redis.xreadgroup(group, name, {stream: ">"}, block=100):
        time.sleep(0.3)
        open("order", "a").write("stored ")
        redis.xack(stream, group, *[entry for entry, _ in entries])
"""
