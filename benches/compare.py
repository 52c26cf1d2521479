"""Measures redis-server, the sidecar and whichever other proxies are installed, in turn and in one run: throughput, CPU per
command from each process's own accounting, percentiles. Prints ratios; quote those, machines differ and are noisy."""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "clients"))

from harness import Postgres, answers, free_port, redis_server, until  # noqa: E402

PLAYERS = 10_000

CONFIG = """
[[definitions]]
key = "location:{location_id:int}:cache"
type = "hash"
table = "locations"

[[caches]]
key = "player:{character_id:int}:session"
type = "hash"
table = "sessions"
ttl = "1h"
write = "through"
deferred = ["last_heartbeat"]

[[caches]]
key = "player:{character_id:int}:inventory"
type = "list"
query = "SELECT item_id, quantity, equipped FROM items WHERE character_id = $1 ORDER BY position"
watch = [{ table = "items" }]
ttl = "1h"
"""

SESSION = {
    "worker_id": "'worker-1'", "websocket_connected": "true", "location_id": "'ruins_entrance'", "hp": "90", "max_hp": "100",
    "stamina": "80", "max_stamina": "100", "level": "7", "xp": "12345", "last_movement_time": "1790000000", "in_combat": "false",
    "last_heartbeat": "1790000001",
}
LOCATION = {
    "name": "'Old ruins'", "description": "repeat('Ivy climbs over stones. ', 6)", "exits": """'{"north":"gate","south":"camp"}'""",
    "danger_level": "3", "image_path": "'img/ruins.png'", "x": "10", "y": "-4", "tags": """'["ruins","outdoor"]'""", "npcs": "'[]'",
}
TABLES = f"""
CREATE TABLE locations (location_id bigint PRIMARY KEY, name text, description text, exits text, danger_level int, image_path text,
    x int, y int, tags text, npcs text);
INSERT INTO locations SELECT i, {", ".join(LOCATION.values())} FROM generate_series(0, 999) AS i;
CREATE TABLE sessions (character_id bigint PRIMARY KEY, worker_id text, websocket_connected bool, location_id text, hp int, max_hp int,
    stamina int, max_stamina int, level int, xp int, last_movement_time bigint, in_combat bool, last_heartbeat bigint);
INSERT INTO sessions SELECT i, {", ".join(SESSION.values())} FROM generate_series(0, {PLAYERS - 1}) AS i;
CREATE TABLE items (character_id bigint, position int, item_id text, quantity int, equipped bool, PRIMARY KEY (character_id, position));
INSERT INTO items SELECT i, n, 'item' || n, 1 + n % 5, n = 0 FROM generate_series(0, {PLAYERS - 1}) AS i, generate_series(0, 19) AS n;
"""


class Server:
    """A process that speaks RESP on a port; its CPU time is read from the kernel."""

    def __init__(self, name, port, pid, unix=None):
        self.name, self.port, self.pid, self.unix = name, port, pid, unix

    def cpu(self):
        """Seconds of user and system time so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident bytes."""
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Rig:
    """Everything that is measured, and what measures it."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.processes = arguments, folder, []
        self.stack = contextlib.ExitStack()
        redis, port = redis_server(folder)
        self.start(redis)
        self.redis = Server("redis", port, redis.pid)
        os.mkdir(f"{folder}/pg")
        self.postgres = Postgres(f"{folder}/pg")
        self.stack.callback(self.postgres.stop)
        self.sql(TABLES)
        self.sidecar = self.new_sidecar("hearthside", 1)
        self.peers = [peer for peer in (self.twemproxy(), self.haproxy(), self.predixy()) if peer]
        self.fill_redis()

    def start(self, process):
        self.processes.append(process)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)

    def sql(self, text):
        done = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.postgres.url], input=text, text=True, capture_output=True)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout.strip()

    def new_sidecar(self, name, workers, config=CONFIG):
        home, port, unix = f"{self.folder}/{name}", free_port(), f"{self.folder}/{name}.sock"
        os.mkdir(home)
        pathlib.Path(f"{home}/config.toml").write_text(config)
        environment = {
            **os.environ,
            "HEARTHSIDE__STORE__URL": self.postgres.url,
            "HEARTHSIDE__UPSTREAM__URL": f"redis://127.0.0.1:{self.redis.port}",
            "HEARTHSIDE__SERVER__LISTEN": f"127.0.0.1:{port}, unix://{unix}",
            "HEARTHSIDE__SERVER__WORKERS": str(workers),
            "HEARTHSIDE__ADMIN__LISTEN": "",
            "HEARTHSIDE__LOG__LEVEL": "error",
        }
        for command in (["migrate"], ["triggers", "--install"]):
            subprocess.run([self.arguments.sidecar, *command], check=True, cwd=home, env=environment, stdout=subprocess.DEVNULL)
        begun = time.monotonic()
        process = subprocess.Popen([self.arguments.sidecar], cwd=home, env=environment)
        self.start(process)
        until("the sidecar answers", lambda: answers(port))
        server = Server(name, port, process.pid, unix)
        server.ready = time.monotonic() - begun
        return server

    def peer(self, name, program, arguments, port):
        process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.start(process)
        until(f"{name} answers", lambda: answers(port))
        return Server(name, port, process.pid)

    def twemproxy(self):
        program, port, path = shutil.which("nutcracker") or shutil.which("/usr/sbin/nutcracker"), free_port(), f"{self.folder}/twemproxy.yml"
        if not program:
            return None
        pathlib.Path(path).write_text(
            f"bench:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  servers:\n"
            f"   - 127.0.0.1:{self.redis.port}:1\n"
        )
        return self.peer("twemproxy", program, ["-c", path, "-s", str(free_port()), "-m", "16384"], port)

    def haproxy(self):
        program, port, path = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy"), free_port(), f"{self.folder}/haproxy.cfg"
        if not program:
            return None
        pathlib.Path(path).write_text(
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen redis\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{self.redis.port}\n"
        )
        return self.peer("haproxy", program, ["-f", path], port)

    def predixy(self):
        program, port, path = self.arguments.predixy or shutil.which("predixy"), free_port(), f"{self.folder}/predixy.conf"
        if not program:
            return None
        pathlib.Path(path).write_text(
            f"Bind 127.0.0.1:{port}\nWorkerThreads 1\nStandaloneServerPool {{\n  RefreshMethod fixed\n  Databases 1\n"
            f"  Group bench {{\n    + 127.0.0.1:{self.redis.port}\n  }}\n}}\n"
        )
        return self.peer("predixy", program, [path], port)

    def fill_redis(self):
        """What the sidecar serves from memory, Redis holds under the same keys."""
        command = ["redis-cli", "-p", str(self.sidecar.port), "--raw"]

        def shown(request):
            return subprocess.run([*command, *request], capture_output=True, text=True, check=True).stdout.splitlines()

        session, location = shown(["HGETALL", "player:1:session"]), shown(["HGETALL", "location:1:cache"])
        rows = shown(["LRANGE", "player:1:inventory", "0", "-1"])
        assert len(session) == 24 and len(location) == 18 and len(rows) == 20, (session, location, rows)
        wanted = []
        for i in range(PLAYERS):
            wanted.append(["HSET", f"player:{i}:session", *session])
            wanted.append(["RPUSH", f"player:{i}:inventory", *rows])
        wanted += [["HSET", f"location:{i}:cache", *location] for i in range(1000)]
        frames = "".join(f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words) for words in wanted)
        pipe = ["redis-cli", "-p", str(self.redis.port), "--pipe"]
        subprocess.run(pipe, input=frames, text=True, check=True, stdout=subprocess.DEVNULL)
        for size, name in ((3, "k3"), (1024, "k1024"), (65536, "k65536")):
            subprocess.run(["redis-cli", "-p", str(self.redis.port), "SET", name, "x" * size], check=True, stdout=subprocess.DEVNULL)
        # Every record is in memory before anything is measured.
        self.load(self.sidecar, ["HGETALL player:{}:session", "LRANGE player:{}:inventory 0 -1"], keys=PLAYERS, pipeline=500, fill=True)

    def load(self, server, commands, clients=50, pipeline=1, keys=1, value=3, fill=False, seconds=None, unix=False):
        asked = ["--clients", clients, "--pipeline", pipeline, "--keys", keys, "--value", value, "--seconds", seconds or self.arguments.seconds]
        where = ["--unix", server.unix] if unix else ["--port", server.port]
        command = [self.arguments.load, *where, *asked, *(["--fill"] if fill else []), *commands]
        told = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if told.returncode:
            sys.exit(f"{server.name}: {told.stderr}")
        return json.loads(told.stdout)

    def measure(self, server, commands, **how):
        cpu = server.cpu()
        told = self.load(server, commands, **how)
        told["cpu"] = (server.cpu() - cpu) / told["requests"] * 1e6
        told["rate"] = told["requests"] / told["seconds"]
        return told


def compare(rig, servers, commands, **how):
    """Every server in turn, several times; of each figure the median."""
    rounds = {server.name: [] for server in servers}
    for _ in range(rig.arguments.rounds):
        for server in servers:
            rounds[server.name].append(rig.measure(server, commands, **how))
    figures = ("rate", "cpu", "p50", "p99", "p999")
    return {name: {figure: statistics.median(one[figure] for one in all) for figure in figures} for name, all in rounds.items()}


def table(title, results, base="redis"):
    lines = [f"\n**{title}**\n", "| | requests/s | of Redis | CPU us/op | of Redis | p50 us | p99 us | p99.9 us |", "|---|---|---|---|---|---|---|---|"]
    for name, told in results.items():
        rate, cpu = told["rate"] / results[base]["rate"], told["cpu"] / results[base]["cpu"]
        lines.append(
            f"| {name} | {told['rate']:,.0f} | {rate:.2f} | {told['cpu']:.2f} | {cpu:.2f} | {told['p50']:.0f} | {told['p99']:.0f} | {told['p999']:.0f} |"
        )
    return "\n".join(lines)


def passed_through(rig):
    everybody = [rig.redis, rig.sidecar, *rig.peers]
    for pipeline in (1, 50):
        yield f"GET passed through, pipeline {pipeline}", compare(rig, everybody, ["GET k3"], pipeline=pipeline)
        yield f"SET passed through, pipeline {pipeline}", compare(rig, everybody, ["SET k{} {x}"], pipeline=pipeline, keys=1000)
    yield "GET of 1 KiB passed through, pipeline 10", compare(rig, everybody, ["GET k1024"], pipeline=10)
    yield "GET of 64 KiB passed through", compare(rig, everybody, ["GET k65536"], clients=10)
    yield "GET passed through, one client", compare(rig, everybody, ["GET k3"], clients=1)


def owned(rig):
    both = [rig.redis, rig.sidecar]
    for pipeline in (1, 50):
        yield f"HGETALL of a definition, pipeline {pipeline}", compare(rig, both, ["HGETALL location:1:cache"], pipeline=pipeline)
        yield f"HGETALL of a session, pipeline {pipeline}", compare(rig, both, ["HGETALL player:1:session"], pipeline=pipeline)
    yield "HGETALL of 10,000 sessions, pipeline 50", compare(rig, both, ["HGETALL player:{}:session"], pipeline=50, keys=PLAYERS)
    yield "LRANGE of 20 rows, pipeline 50", compare(rig, both, ["LRANGE player:{}:inventory 0 -1"], pipeline=50, keys=PLAYERS)
    yield "HGET of a session, pipeline 50", compare(rig, both, ["HGET player:1:session hp"], pipeline=50)
    mixed = ["HGETALL player:{}:session", "HGET player:{}:session hp", "LRANGE player:{}:inventory 0 -1", "GET k3", "SET k{} {x}"]
    yield "Mixed, pipeline 5", compare(rig, both, mixed, pipeline=5, keys=PLAYERS)


def misses(rig):
    """A key that is not in memory, one after the other, against the same statement prepared by pgbench."""
    script = pathlib.Path(f"{rig.folder}/miss.sql")
    columns = ", ".join(SESSION)
    script.write_text(
        f"\\set id random(0, {PLAYERS - 1})\n"
        f"SELECT row_to_json(r)::text FROM (SELECT {columns} FROM sessions WHERE character_id = :id) AS r;\n"
    )
    ours, theirs, seconds = [], [], str(max(1, round(rig.arguments.seconds)))
    for _ in range(rig.arguments.rounds):
        forget = ["redis-cli", "-p", str(rig.sidecar.port), "HEARTHSIDE", "INVALIDATE", "player:*"]
        subprocess.run(forget, check=True, stdout=subprocess.DEVNULL)
        ours.append(rig.load(rig.sidecar, ["HGETALL player:{}:session"], keys=5000, fill=True)["p50"])
        bench = ["pgbench", "-n", "-M", "prepared", "-c", "1", "-T", seconds, "-f", str(script), rig.postgres.url]
        told = subprocess.run(bench, capture_output=True, text=True, check=True).stdout
        theirs.append(1000 * float(re.search(r"latency average = ([\d.]+) ms", told).group(1)))
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    return f"\n**A miss, one client**: {ours:.0f} us at the sidecar, {theirs:.0f} us by pgbench (prepared): {ours / theirs:.2f}"


def connected(server):
    told = subprocess.run(["redis-cli", "-p", str(server.port), "INFO", "clients"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"connected_clients:(\d+)", told).group(1))


def idle(rig):
    """Memory of connections that do nothing."""
    count, hard = 10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1000, max(count + 1000, hard)))
    sidecar = rig.new_sidecar("idle", 1)
    before, upstream = sidecar.memory(), connected(rig.redis)
    clients = [socket.create_connection(("127.0.0.1", sidecar.port)) for _ in range(count)]
    for client in clients:
        client.sendall(b"*1\r\n$4\r\nPING\r\n")
    for client in clients:
        assert client.recv(100) == b"+PONG\r\n"
    after, more = sidecar.memory(), connected(rig.redis) - upstream
    for client in clients:
        client.close()
    return f"\n**{count:,} idle clients**: {(after - before) / 2**20:.0f} MiB over the empty process, {more} more upstream connections"


def boot(rig):
    """Definitions from a file and from Postgres: from the start of the process to the first answer."""
    count, lines = 100_000, []
    row = {"name": "Iron sword", "description": "Plain, sharp, heavy. " * 4, "type": "weapon", "weight": 2.5, "stats": {"str": 1}, "tier": 2}
    path = f"{rig.folder}/definitions.json"
    pathlib.Path(path).write_text(json.dumps({f"item{i}": row for i in range(count)}))
    rig.sql(
        "CREATE TABLE defs (id text PRIMARY KEY, name text, description text, type text, weight float8, stats json, tier int);"
        f"INSERT INTO defs SELECT 'item' || i, 'Iron sword', repeat('Plain, sharp, heavy. ', 4), 'weapon', 2.5, '{{\"str\": 1}}', 2 "
        f"FROM generate_series(0, {count - 1}) AS i; ANALYZE defs"
    )
    raw = sum(len(str(name)) + len(value if isinstance(value, str) else json.dumps(value)) for name, value in row.items()) + 10
    empty = rig.new_sidecar("empty", 1, config="")
    for name, source in (("a file", f'file = "{path}"'), ("Postgres", 'table = "defs"')):
        config = f'[[definitions]]\nkey = "def:{{id}}"\ntype = "hash"\n{source}\n'
        server = rig.new_sidecar(f"boot from {name}".replace(" ", "-"), 1, config=config)
        memory = (server.memory() - empty.memory()) / (raw * count)
        lines.append(
            f"\n**{count:,} definitions from {name}**: ready after {server.ready:.2f} s, {memory:.1f} times their raw bytes in memory"
        )
    return "".join(lines)


FIGURES = {"miss": misses, "idle": idle, "boot": boot}
GROUPS = {"passed": passed_through, "owned": owned}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sidecar", required=True, type=os.path.abspath)
    parser.add_argument("--load", required=True, type=os.path.abspath)
    parser.add_argument("--predixy", help="its program, which no distribution has")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", default="", help="one part: passed, owned, miss, idle, boot")
    parser.add_argument("--write", type=pathlib.Path, help="append what was measured to this file")
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout.strip()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}"
    report = [f"\n## {datetime.date.today()}, commit {commit}\n\n{machine}; 1 worker; medians of {arguments.rounds} rounds of {arguments.seconds:g} s"]
    print(report[0], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        rig = Rig(arguments, folder)
        with rig.stack:
            for name, group in GROUPS.items():
                if arguments.only in ("", name):
                    for title, results in group(rig):
                        report.append(table(title, results))
                        print(report[-1], flush=True)
            for name, figure in FIGURES.items():
                if arguments.only in ("", name):
                    report.append(figure(rig))
                    print(report[-1], flush=True)
    if arguments.write:
        with arguments.write.open("a") as file:
            file.write("\n".join(report) + "\n")


if __name__ == "__main__":
    main()
