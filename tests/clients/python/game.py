"""What both Python workloads have in common: names, and how the store is changed from outside."""

import os
import random
import subprocess
import time

PORT = int(os.environ["PORT"])
PROTOCOL = int(os.environ["PROTOCOL"])
# A cluster has one database, and a command or a transaction names keys of one slot.
TOPOLOGY = os.environ["TOPOLOGY"]
SESSION_FIELDS = (
    "worker_id websocket_connected location_id hp max_hp stamina max_stamina level xp "
    "last_movement_time in_combat last_heartbeat"
).split()
LOCATION_FIELDS = "name description exits danger_level image_path x y tags interactables npcs".split()


def session(player):
    return f"player:{player}:session"


def inventory(player):
    return f"player:{player}:inventory"


def sql(statement):
    done = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, os.environ["STORE"]], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def error_of(call):
    """The error a call raises; fails if it raises none."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever the library raises is what is looked at
        return str(error)
    raise AssertionError("no error")


def until(what, holds, seconds=10):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"


def zipf(count):
    """So many of the players 1 to 100 at random, player n about as often as 1/n says: the first much more often than the last."""
    return [int(101 ** random.random()) for _ in range(count)]
