"""Replays a game server of 1,000 players on 4 workers, its cache-aside code left in place: first against a plain Redis, then
against a sidecar before it, both cold. Counts the statements at Postgres (pg_stat_statements), whose they are by its role, and
tells how often each kind of key was found, how long the game's reads took, and messages from worker to worker."""

import argparse
import collections
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request

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
    """All workers from the first to the last simulated second; what each has seen."""
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
    return [json.loads(line) for line in told]


def cpu(pid, and_children=False):
    """Seconds of user and system time of a process and its ended children so far, of those that run too if asked."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    seconds = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    if and_children:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        seconds += sum(cpu(child) for child in children)
    return seconds


def used(postgres, server, sidecar):
    """What each part has used of the CPU so far, in seconds, and the time."""
    of_workers, postmaster = resource.getrusage(resource.RUSAGE_CHILDREN), pathlib.Path(f"{postgres.data}/postmaster.pid")
    return {
        "the game": of_workers.ru_utime + of_workers.ru_stime,
        "Redis": cpu(server.pid),
        "the sidecar": cpu(sidecar.process.pid) if sidecar else 0.0,
        "Postgres": cpu(postmaster.read_text().split()[0], and_children=True),
        "all, there were": time.monotonic() * len(os.sched_getaffinity(0)),
    }


def statements(arguments, postgres):
    """By who sent them, without the reads that check what is shown at the end."""
    counts = {"reads": -arguments.players, "writes": 0, "sidecar": 0}
    for line in sql(postgres, GROUPS).splitlines():
        who, calls, query = line.split("\t")
        counts[who] += int(calls)
        if arguments.verbose:
            print(f"  {who:8} {calls:>7} {query}")
    return counts


def p95(told, what):
    """Milliseconds, over all workers; `None` where nothing was measured."""
    times = collections.Counter()
    for one in told:
        times.update({int(tenths): count for tenths, count in one[what].items()})
    left = 0.95 * times.total()
    for tenths, count in sorted(times.items()):
        left -= count
        if left <= 0:
            return tenths / 10
    return None


def found(told, misses):
    """The share that was found of each kind of key: by the game, but where a sidecar knows better."""
    kinds = {}
    for kind in sorted({kind for one in told for kind in one["kinds"]}):
        asked, there = (sum(one["kinds"].get(kind, (0, 0))[at] for one in told) for at in (0, 1))
        kinds[kind] = 100 * (1 - misses[kind] / asked if kind in misses else there / asked)
    return kinds


def missed(sidecar):
    """Reads that needed a load, by kind of key as the worker names it."""
    port = re.search(r"admin port listen=127.0.0.1:(\d+)", sidecar.log.read_text()).group(1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    counts = re.findall(r'^hearthside_misses_total\{mapping="([^"]+)"\} (\d+)', text, re.MULTILINE)
    return {re.sub("{[^}]*}", "{}", kind): int(count) for kind, count in counts}


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
        # What happens once in a simulated second, and players who all come back at once.
        settings = {
            "HEARTHSIDE__JOURNAL__FLUSH_INTERVAL": f"{int(1000 / arguments.speed)}ms",
            "HEARTHSIDE__STORE__LOAD_PAUSE": "50ms",
        }
        sidecar = Sidecar(arguments.sidecar, home, postgres, f"redis://127.0.0.1:{port}", settings)
    before = used(postgres, server, sidecar)
    told, misses = play(arguments, postgres, sidecar.port if sidecar else port), {}
    if arguments.verbose:
        parts = (f"{part} {seconds - before[part]:.1f}" for part, seconds in used(postgres, server, sidecar).items())
        print(f"  {name}, seconds of CPU: {', '.join(parts)}", flush=True)
    counts = statements(arguments, postgres)
    if sidecar:
        misses, trouble = missed(sidecar), sidecar.stop()
    server.terminate()
    server.wait()
    postgres.stop()
    wrong = sum(one["wrong"] for one in told)
    if trouble or wrong:
        sys.exit(f"{name}: {wrong} inventories are wrong {trouble}")
    figures = {what: p95(told, what) for what in ("operations", "delivered")}
    return {**figures, "statements": counts, "found": found(told, misses), "actions": sum(one["actions"] for one in told)}


def fall(before, after):
    return 100 * (1 - after / before)


def both(arguments):
    """The replay against plain Redis, and through a sidecar."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        return [scene(arguments, name, folder, name == "hearthside") for name in ("plain", "hearthside")]


def own(scene):
    return scene["statements"]["reads"] + scene["statements"]["writes"]


def everything(scene):
    return sum(scene["statements"].values())


def shown(milliseconds):
    return "" if milliseconds is None else f"{milliseconds:.1f} ms"


def report(arguments, plain, with_sidecar):
    scenes = (plain, with_sidecar)
    print(f"{arguments.players} players, {arguments.workers} workers, {arguments.minutes:g} simulated minutes: {plain['actions']} actions")
    print("| statements at Postgres | plain Redis | with the sidecar |\n|---|---|---|")
    for who, what in (("reads", "the game's own, after a miss"), ("sidecar", "the sidecar's"), ("writes", "the game's writes")):
        print(f"| {what} | {plain['statements'][who]} | {with_sidecar['statements'][who]} |")
    print(f"| all | {everything(plain)} | {everything(with_sidecar)} |")
    print(
        f"the game's own queries fall by {fall(own(plain), own(with_sidecar)):.1f} %, "
        f"all statements, the sidecar's included, by {fall(everything(plain), everything(with_sidecar)):.1f} %"
    )
    print("| | plain Redis | with the sidecar | wished for |\n|---|---|---|---|")
    for kind in plain["found"]:
        print(f"| hits of {kind} | {plain['found'][kind]:.1f} % | {with_sidecar['found'][kind]:.1f} % | over 80 % |")
    for figure, what, wish in (
        ("operations", "a read of the game's, to its answer: p95", "under 10 ms"),
        ("delivered", "a message from worker to worker: p95", "under 2 ms"),
    ):
        print(f"| {what} | {' | '.join(shown(scene[figure]) for scene in scenes)} | {wish} |")


def curve(arguments):
    """The same players on 1, 2 and 4 workers."""
    names = ("plain Redis", "with the sidecar")
    print(f"{arguments.players} players, {arguments.minutes:g} simulated minutes")
    print("| workers | | statements at Postgres | least hits of a kind | a read: p95 | a message: p95 |\n|---|---|---|---|---|---|")
    for workers in (1, 2, 4):
        arguments.workers = workers
        for name, told in zip(names, both(arguments), strict=True):
            times = f"{shown(told['operations'])} | {shown(told['delivered'])}"
            print(f"| {workers} | {name} | {everything(told)} | {min(told['found'].values()):.1f} % | {times} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sidecar", required=True, type=os.path.abspath)
    parser.add_argument("--players", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--speed", type=float, default=3, help="simulated seconds per second")
    parser.add_argument("--at-least", type=float, default=90, help="percent by which the queries must fall")
    parser.add_argument("--curve", action="store_true", help="with 1, 2 and 4 workers, one line each")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    if arguments.curve:
        return curve(arguments)
    plain, with_sidecar = both(arguments)
    report(arguments, plain, with_sidecar)
    return 0 if fall(own(plain), own(with_sidecar)) >= arguments.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
