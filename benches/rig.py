"""The servers that are compared, each with its CPU and memory from the kernel, and the load that is put on them."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
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


class Place:
    """A folder, a port and the settings of a sidecar, which may be started there again and again."""

    def __init__(self, rig, name, config, more):
        self.home, self.port, self.unix = f"{rig.folder}/{name}", free_port(), f"{rig.folder}/{name}.sock"
        os.mkdir(self.home)
        pathlib.Path(f"{self.home}/config.toml").write_text(config)
        self.environment = {
            **os.environ,
            "HEARTHSIDE__STORE__URL": rig.postgres.url,
            "HEARTHSIDE__UPSTREAM__URL": f"redis://127.0.0.1:{rig.redis.port}",
            "HEARTHSIDE__SERVER__LISTEN": f"127.0.0.1:{self.port}, unix://{self.unix}",
            "HEARTHSIDE__ADMIN__LISTEN": "",
            "HEARTHSIDE__LOG__LEVEL": "error",
            **more,
        }

    def prepare(self, program):
        """What the store needs."""
        for command in (["migrate"], ["triggers", "--install"]):
            subprocess.run([program, *command], check=True, cwd=self.home, env=self.environment, stdout=subprocess.DEVNULL)

    def start(self, program):
        return subprocess.Popen([program], cwd=self.home, env=self.environment)


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
        # First, since an earlier build may not know the migrations of a later one.
        self.before = [self.new_sidecar("before", 1, program=arguments.before)] if arguments.before else []
        self.sidecar = self.new_sidecar("hearthside", 1)
        self.peers = [*self.before, *(peer for peer in (self.twemproxy(), self.haproxy(), self.predixy()) if peer)]
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

    def new_sidecar(self, name, workers, config=CONFIG, upstream=None, program=None):
        more = {"HEARTHSIDE__UPSTREAM__URL": f"redis://127.0.0.1:{upstream}"} if upstream else {}
        process, server = self.run_sidecar(name, workers, config, more, program)
        self.start(process)
        return server

    def run_sidecar(self, name, workers, config, more, program=None):
        """One that its caller ends; `more` are settings."""
        program = program or self.arguments.sidecar
        place = Place(self, name, config, {"HEARTHSIDE__SERVER__WORKERS": str(workers), **more})
        place.prepare(program)
        begun = time.monotonic()
        process = place.start(program)
        until("the sidecar answers", lambda: answers(place.port))
        server = Server(name, place.port, process.pid, place.unix)
        server.ready = time.monotonic() - begun
        return process, server

    def peer(self, name, program, arguments, port):
        process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.start(process)
        until(f"{name} answers", lambda: answers(port))
        return Server(name, port, process.pid)

    def synced_redis(self):
        """A Redis that syncs each write before it answers, as the journal does."""
        port, home = free_port(), f"{self.folder}/synced"
        os.mkdir(home)
        asked = ["--port", str(port), "--save", "", "--dir", home, "--appendonly", "yes", "--appendfsync", "always"]
        return self.peer("redis that syncs", "redis-server", asked, port)

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
        for sidecar in (self.sidecar, *self.before):
            asked = ["HGETALL player:{}:session", "LRANGE player:{}:inventory 0 -1"]
            self.load(sidecar, asked, keys=PLAYERS, pipeline=500, fill=True)

    def load(self, server, commands, clients=50, pipeline=1, keys=1, value=3, fill=False, seconds=None, unix=False):
        asked = ["--clients", clients, "--pipeline", pipeline, "--keys", keys, "--value", value, "--seconds", seconds or self.arguments.seconds]
        where = ["--unix", server.unix] if unix else ["--port", server.port]
        command = [self.arguments.load, *where, *asked, *(["--fill"] if fill else []), *commands]
        told = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if told.returncode:
            sys.exit(f"{server.name}: {told.stderr}")
        return json.loads(told.stdout)

    def until_calm(self, figure, before):
        """A figure that has changed, and has stopped to."""
        until("the figure changes", lambda: figure() != before, seconds=30)
        last, now = None, figure()
        while last != now:
            time.sleep(2.5)
            last, now = now, figure()
        return now

    def measure(self, server, commands, **how):
        cpu = server.cpu()
        told = self.load(server, commands, **how)
        told["cpu"] = (server.cpu() - cpu) / told["requests"] * 1e6
        told["rate"] = told["requests"] / told["seconds"]
        return told
