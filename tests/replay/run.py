"""Replays a game server of 1,000 players on 4 workers, its cache-aside code left in place: first against a plain Redis, then
against a sidecar before it, both cold. Counts the statements at Postgres (pg_stat_statements), whose they are by its role."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "clients"))

from harness import Postgres, Sidecar, redis_server  # noqa: E402

LOCATIONS = 60
ITEMS = 200

WORLD = f"""
CREATE EXTENSION pg_stat_statements;
CREATE ROLE game LOGIN SUPERUSER;
TRUNCATE locations, items, characters, sessions, inventory_items CASCADE;
INSERT INTO locations SELECT 'place' || i, 'Place ' || i, 'A place.', '[]', 1, NULL, i, i, '[]', '[]', '[]'
    FROM generate_series(1, {LOCATIONS}) AS i;
INSERT INTO items SELECT 'item' || i, 'Item ' || i, 'A thing.', 'tool', 1, 1, NULL, NULL, true, false, '{{}}', '{{}}', 1, 1, 2, 10
    FROM generate_series(1, {ITEMS}) AS i;
INSERT INTO characters SELECT i, 'Player ' || i FROM generate_series(0, $PLAYERS - 1) AS i;
INSERT INTO sessions SELECT i, 'w' || i % 4, true, 'place' || 1 + i % {LOCATIONS}, 90, 100, 80, 100, 3, 1234, now(), false, now(), NULL
    FROM generate_series(0, $PLAYERS - 1) AS i;
INSERT INTO inventory_items (character_id, item_id, quantity, equipped, position)
    SELECT i, 'item' || 1 + (i * 7 + n) % {ITEMS}, 10, false, n FROM generate_series(0, $PLAYERS - 1) AS i, generate_series(0, 7) AS n;
"""

CONFIG = """
[[definitions]]
key = "location:{location_id}:cache"
type = "hash"
table = "locations"

[[definitions]]
key = "item:{item_id}:def"
type = "hash"
table = "items"

[[caches]]
key = "player:{character_id:int}:session"
type = "hash"
table = "sessions"
ttl = "30m"
renew = true
timestamps = "epoch"
write = "deferred"

[[caches]]
key = "player:{character_id:int}:inventory"
type = "list"
query = "SELECT inventory_id, item_id, quantity, equipped FROM inventory_items WHERE character_id = $1 ORDER BY position"
watch = [{ table = "inventory_items" }]
ttl = "10m"
write = "fill"
"""

GROUPS = """
SELECT CASE WHEN rolname = 'game' THEN CASE WHEN query LIKE 'SELECT%' THEN 'reads' ELSE 'writes' END ELSE 'sidecar' END AS who,
       sum(calls)::int, left(regexp_replace(min(query), '\\s+', ' ', 'g'), 100)
FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid
WHERE query NOT LIKE '%pg_stat_statements%' GROUP BY who, queryid ORDER BY who, 2 DESC
"""


def sql(postgres, text):
    done = subprocess.run(["psql", "-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", text, postgres.url], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"psql: {done.stderr}")
    return done.stdout.strip()


def play(arguments, postgres, port):
    """All workers from the first to the last simulated second; what they checked, and the statements by who sent them."""
    settings = {
        "redis": int(port),
        "store": f"postgres://game@127.0.0.1:{postgres.port}/postgres",
        "players": arguments.players,
        "workers": arguments.workers,
        "minutes": arguments.minutes,
        "speed": arguments.speed,
        "locations": [f"place{i + 1}" for i in range(LOCATIONS)],
    }
    environment = {**os.environ, "REPLAY": json.dumps(settings)}
    command = [sys.executable, f"{HERE}/worker.py"]
    workers = [
        subprocess.Popen([*command, str(i)], env=environment, stdout=subprocess.PIPE, text=True) for i in range(arguments.workers)
    ]
    told = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        sys.exit("a worker failed")
    told = [json.loads(line) for line in told]
    checks = arguments.players
    counts = {"reads": -checks, "writes": 0, "sidecar": 0}
    for line in sql(postgres, GROUPS).splitlines():
        who, calls, query = line.split("\t")
        counts[who] += int(calls)
        if arguments.verbose:
            print(f"  {who:8} {calls:>7} {query}")
    return {key: sum(one[key] for one in told) for key in ("used", "wrong", "actions")}, counts


def scene(arguments, name, folder, with_sidecar):
    """One replay in a world of its own, caches cold."""
    for part in ("pg", "redis", "sidecar"):
        os.makedirs(f"{folder}/{name}/{part}")
    os.chmod(f"{folder}/{name}", 0o755)
    postgres = Postgres(f"{folder}/{name}/pg", "-c shared_preload_libraries=pg_stat_statements")
    server, port = redis_server(f"{folder}/{name}/redis")
    migrate = {**os.environ, "HEARTHSIDE__STORE__URL": postgres.url}
    home = f"{folder}/{name}/sidecar"
    pathlib.Path(f"{home}/config.toml").write_text(CONFIG)
    for command in (["migrate", "--demo"], ["triggers", "--install"]):
        subprocess.run([arguments.sidecar, *command], check=True, cwd=home, env=migrate, stdout=subprocess.DEVNULL)
    sql(postgres, WORLD.replace("$PLAYERS", str(arguments.players)))
    commands = "".join(f"SADD location:place{1 + i % LOCATIONS}:players {i}\r\n" for i in range(arguments.players))
    subprocess.run(["redis-cli", "-p", str(port), "--pipe"], input=commands, text=True, check=True, stdout=subprocess.DEVNULL)
    sql(postgres, "SELECT pg_stat_statements_reset()")
    sidecar, trouble = None, []
    if with_sidecar:
        # What happens once in a simulated second.
        flush = {"HEARTHSIDE__JOURNAL__FLUSH_INTERVAL": f"{int(1000 / arguments.speed)}ms"}
        sidecar = Sidecar(arguments.sidecar, home, postgres, port, flush)
    checked, counts = play(arguments, postgres, sidecar.port if sidecar else port)
    if sidecar:
        trouble = sidecar.stop()
    server.terminate()
    server.wait()
    postgres.stop()
    if trouble or checked["wrong"]:
        sys.exit(f"{name}: {checked} {trouble}")
    return checked, counts


def fall(before, after):
    return 100 * (1 - after / before)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sidecar", required=True, type=os.path.abspath)
    parser.add_argument("--players", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--speed", type=float, default=3, help="simulated seconds per second")
    parser.add_argument("--at-least", type=float, default=90, help="percent by which the queries must fall")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        plain, before = scene(arguments, "plain", folder, False)
        with_sidecar, after = scene(arguments, "hearthside", folder, True)
    print(f"{arguments.players} players, {arguments.workers} workers, {arguments.minutes:g} simulated minutes: {plain['actions']} actions")
    print("| statements at Postgres | plain Redis | with the sidecar |\n|---|---|---|")
    for who, what in (("reads", "the game's own, after a miss"), ("sidecar", "the sidecar's"), ("writes", "the game's writes")):
        print(f"| {what} | {before[who]} | {after[who]} |")
    own = [counts["reads"] + counts["writes"] for counts in (before, after)]
    everything = [sum(counts.values()) for counts in (before, after)]
    print(f"| all | {everything[0]} | {everything[1]} |")
    print(f"the game's own queries fall by {fall(*own):.1f} %, all statements, the sidecar's included, by {fall(*everything):.1f} %")
    return 0 if fall(*own) >= arguments.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
