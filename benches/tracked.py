"""Clients with caches of their own (CLIENT TRACKING): the memory of many that keep many keys, how soon they are told of a change
that all of them wait for, what that does to others, and how soon of a commit in Postgres. Beside Redis, which is told the same."""

import re
import resource
import select
import socket
import subprocess
import threading
import time

from harness import until  # rig.py has put its folder on the path
from writers import at

CLIENTS, KEYS, CHANGES, COMMITS = 2000, 1000, 30, 1000

CONFIG = """
[[caches]]
key = "piece:{id:int}"
type = "string"
table = "pieces"
value = "v"
write = "through"

[tracking]
max_bytes = "1gb"

[cache]
max_bytes = "16mb"
"""
ALL = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
BEGIN = b">2\r\n"
CHANGED = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\npiece:0\r\n"
TOLD = re.compile(rb">2\r\n\$10\r\ninvalidate\r\n(?:_|\*1\r\n\$\d+\r\npiece:(\d+))\r\n")
REPLY = re.compile(rb"\$1\r\n.\r\n")


class Keeper:
    """A client that tracks, and reads keys."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"HELLO 3\r\nCLIENT TRACKING ON\r\n")
        told = b""
        while not told.endswith(b"+OK\r\n"):
            told += self.socket.recv(4096)

    def read(self, keys):
        """All values have one character. What it is told of meanwhile it reads again."""
        self.socket.sendall(b"".join(b"GET piece:%d\r\n" % key for key in keys))
        said = b""
        while len(REPLY.findall(said)) < len(keys) or said.count(BEGIN) > len(TOLD.findall(said)):
            said += self.socket.recv(1 << 16)
        again = [int(key) for key in TOLD.findall(said) if key]
        if again:
            self.read(again)

    def hears(self):
        """That the key has changed, or, after a gap, that any may have."""
        told = self.socket.recv(len(ALL), socket.MSG_WAITALL)
        if told != ALL:
            told += self.socket.recv(len(CHANGED) - len(ALL), socket.MSG_WAITALL)
            assert told == CHANGED, told


class Sql:
    """Changes one piece after the other, over a psql that stays open."""

    def __init__(self, url):
        self.psql = subprocess.Popen(["psql", "-XqAt", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def change(self, key, _):
        """The moment before it was sent. To another value: of what changes nothing nobody is told."""
        begun = time.perf_counter()
        self.psql.stdin.write(f"UPDATE pieces SET v = CASE v WHEN 'y' THEN 'z' ELSE 'y' END WHERE id = {key};\n")
        self.psql.stdin.flush()
        return begun

    def end(self):
        self.psql.stdin.close()
        self.psql.wait()


class Command:
    """Changes one piece after the other by SET."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port))

    def change(self, key, value):
        begun = time.perf_counter()
        self.socket.sendall(f"SET piece:{key} {value}\r\n".encode())
        assert self.socket.recv(100) == b"+OK\r\n"
        return begun

    def end(self):
        self.socket.close()


def spread(keepers, writer, change):
    """Milliseconds until each of them has been told of a change of the key that all of them keep."""
    waiting, times = select.epoll(), []
    by_number = {keeper.socket.fileno(): keeper for keeper in keepers}
    for number in by_number:
        waiting.register(number, select.EPOLLIN)
    begun = writer.change(0, "yz"[change % 2])
    while len(times) < len(keepers):
        for number, _ in waiting.poll(10):
            waiting.unregister(number)
            times.append((time.perf_counter() - begun) * 1000)
            by_number[number].hears()
    for keeper in keepers:
        keeper.read([0])
    return times


def crowd(rig, server, keys_of):
    """The clients, and MiB of the server that they cost, with what they have read."""
    before = server.memory()
    keepers = [Keeper(server) for _ in range(CLIENTS)]
    for number, keeper in enumerate(keepers):
        keeper.read(keys_of(number))
    return keepers, (server.memory() - before) / (1 << 20), server.memory() / (1 << 20)


def disturbed(rig, server, keepers, writer):
    """p99 of another client's reads, in microseconds: alone, and while all are told of two changes a second."""
    ask = {"clients": 4, "pipeline": 1, "seconds": 5}
    alone = rig.load(server, ["GET piece:7"], **ask)["p99"]
    is_over = threading.Event()

    def go_on():
        change = 0
        while not is_over.wait(0.5):
            spread(keepers, writer, change)
            change += 1

    changes = threading.Thread(target=go_on)
    changes.start()
    beside = rig.load(server, ["GET piece:7"], **ask)["p99"]
    is_over.set()
    changes.join()
    return alone, beside


def line(name, server, told):
    return f"| {name} | {server} | " + " | ".join(told) + " |"


def commits(rig, server):
    """Milliseconds from sending an update to Postgres until a client that keeps its key has been told."""
    keeper, sql, times = Keeper(server), Sql(rig.postgres.url), []
    for change in range(COMMITS):
        keeper.read([0])
        begun = sql.change(0, "yz"[change % 2])
        keeper.hears()
        times.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.002)
    sql.end()
    return times


def tracked(rig):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (CLIENTS + 1000, max(CLIENTS + 1000, hard)))
    rig.sql("CREATE TABLE pieces (id bigint PRIMARY KEY, v text)")
    rig.sql(f"INSERT INTO pieces SELECT i, 'x' FROM generate_series(0, {CLIENTS * KEYS}) AS i")
    pieces = "".join(f"SET piece:{i} x\r\n" for i in range(CLIENTS * KEYS + 1))
    subprocess.run(["redis-cli", "-p", str(rig.redis.port), "--pipe"], input=pieces, text=True, check=True, stdout=subprocess.DEVNULL)
    # Beyond a million keys a Redis tells clients to forget some, as it is configured at first.
    subprocess.run(["redis-cli", "-p", str(rig.redis.port), "CONFIG", "SET", "tracking-table-max-keys", "0"], check=True, stdout=subprocess.DEVNULL)
    lines = [
        f"\n**{CLIENTS:,} clients that track and keep {KEYS:,} keys each**\n",
        "| keys | | MiB more | MiB in all | told of one change, ms: p50 | p99 | another client's p99, us: alone | beside two changes a second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ways = {"the same": lambda _: range(KEYS), "of their own": lambda number: [0, *range(number * KEYS + 1, (number + 1) * KEYS)]}
    for name, keys_of in ways.items():
        sidecar = rig.new_sidecar("tracked-" + name.replace(" ", "-"), 1, config=CONFIG)
        Keeper(sidecar).read(range(0, KEYS))
        for title, server in (("sidecar", sidecar), ("Redis", rig.redis)):
            keepers, more, all_of_it = crowd(rig, server, keys_of)
            writer = Sql(rig.postgres.url) if server is sidecar else Command(server)
            times = [one for change in range(CHANGES) for one in spread(keepers, writer, change)]
            alone, beside = disturbed(rig, server, keepers, writer)
            figures = [f"{more:.0f}", f"{all_of_it:.0f}", f"{at(times, 0.5):.1f}", f"{at(times, 0.99):.1f}", f"{alone:.0f}", f"{beside:.0f}"]
            lines.append(line(name, title, figures))
            writer.end()
            for keeper in keepers:
                keeper.socket.close()
            until("they have left", lambda server=server: left(server))
    times = commits(rig, rig.new_sidecar("tracked-commits", 1, config=CONFIG))
    lines.append(
        f"\nFrom sending an UPDATE to Postgres until the client that keeps the key is told (feed notify), {COMMITS:,} times: "
        f"p50 {at(times, 0.5):.1f} ms, p90 {at(times, 0.9):.1f} ms, p99 {at(times, 0.99):.1f} ms"
    )
    return "\n".join(lines)


def left(server):
    told = subprocess.run(["redis-cli", "-p", str(server.port), "CLIENT", "LIST"], capture_output=True, text=True, check=True).stdout
    return len(told.splitlines()) < 50
