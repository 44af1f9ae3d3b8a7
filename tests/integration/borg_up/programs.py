"""Programs that the tests of ``borg up`` run: borg with another agent, and what such an agent begins with."""

# Borg as it is, with real agents.
BORG = "from borglocal.main import main; main()"

# Runs borg with another program as its agent; the first argument is that program.
DRIVER = """
import os, sys
from dataclasses import replace
from borglocal import crew, main, supervisor

program = sys.argv.pop(1)
crew._FIRST_BACKOFF_S = 0.05
if "TEST_BORG_GRACE_S" in os.environ:
    crew._LATE_S = 0.0

def command(plan, redis):
    return [sys.executable, program, plan.folder.run, redis.url]

def run_up(plan, display):
    return supervisor.run_up(replace(plan, grace_s=float(os.environ.get("TEST_BORG_GRACE_S", "10"))), display, command)

main.run_up = run_up
main.main()
"""

# What every agent of these tests begins with: it can write a report and hears SIGTERM.
AGENT = """
import json, os, signal, sys, time
from redis import Redis

run, url = sys.argv[1:]
redis = Redis.from_url(url, password=os.environ["BORG_REDIS_PASSWORD"])
number = redis.incr("agents-started")

def report(returns=(), learner=None, epsilon=0.5):
    now = time.time()
    written = {"agent": number, "pid": os.getpid(), "at_s": now, "steps": 10, "steps_per_s": 5.0, "episodes": 1,
               "epsilon": epsilon, "weights_version": 1,
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
