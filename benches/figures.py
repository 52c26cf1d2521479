"""Figures that are no table: one line each, with what it is measured against."""

import json
import pathlib
import re
import resource
import socket
import statistics
import subprocess
import threading
import time

from axis import writes
from clusters import clusters
from cold import cold
from mappings import mappings
from near import near
from rig import CONFIG, PLAYERS, SESSION
from scrape import scrape
from tracked import tracked
from transactions import transactions
from writers import staleness, writers

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


RENEWED = """
[[caches]]
key = "player:{character_id:int}:session"
type = "hash"
table = "sessions"
ttl = "1h"
expires_column = "expires_at"
write = "deferred"
"""


def renewals(rig):
    """EXPIRE of 1,000 sessions in one pipeline, against the same at Redis, and at one that syncs each write as the journal does."""
    rig.sql("ALTER TABLE sessions ADD COLUMN IF NOT EXISTS expires_at timestamptz")
    rig.sql("UPDATE sessions SET expires_at = now() + interval '1 hour'")
    sidecar, synced = rig.new_sidecar("renewals", 1, config=RENEWED), rig.synced_redis()
    rig.load(sidecar, ["HGETALL player:{}:session"], keys=1000, pipeline=500, fill=True)
    rig.load(synced, ["HSET player:{}:session hp 90"], keys=1000, pipeline=500, fill=True)
    updated = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
    before, servers = int(rig.sql(updated)), (rig.redis, synced, sidecar)
    pipelines, cpu = {server: [] for server in servers}, {server: server.cpu() for server in servers}
    # In turns: what else the machine and its disk do is the same for all.
    for _ in range(31):
        for server in servers:
            pipelines[server].append(rig.load(server, ["EXPIRE player:{}:session 1800"], keys=1000, pipeline=1000, fill=True)["p50"] / 1000)
    theirs, synced_ms, ours = (statistics.median(pipelines[server]) for server in servers)
    used = {server.name: 1000 * (server.cpu() - cpu[server]) / 31 for server in servers}
    saved = rig.until_calm(lambda: int(rig.sql(updated)), before) - before
    return (
        f"\n**1,000 renewals in one pipeline**: on disk and answered after {ours:.1f} ms ({used['renewals']:.0f} ms of CPU); a Redis that "
        f"syncs each write (`appendfsync always`) answers after {synced_ms:.1f} ms ({used[synced.name]:.0f} ms), the ratio is "
        f"{ours / synced_ms:.1f}; one that does not, after {theirs:.1f} ms; of 31,000 renewals {saved:,} rows were written to the store"
    )


def fanout(rig):
    """One message to 1,000 subscribers of one sidecar, against Redis."""
    sidecar, told = rig.new_sidecar("fanout", 1, config=CONFIG + '\n[pubsub]\nmode = "shared"\n'), {}
    for server in (rig.redis, sidecar):
        command = [rig.arguments.fanout, "--port", str(server.port), "--subscribers", "1000"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told[server.name] = json.loads(process.communicate()[0])
    told["hearthside"] = told.pop("fanout")
    lines = [f"{name}: p50 {one['p50'] / 1000:.1f} ms, p99 {one['p99'] / 1000:.1f} ms" for name, one in told.items()]
    return "\n**One message to 1,000 subscribers**: " + "; ".join(lines)


def connecting(port, stop):
    """1,000 clients a second: connect, PING, leave."""
    due = time.monotonic()
    while not stop.is_set():
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"*1\r\n$4\r\nPING\r\n")
            client.recv(100)
        due += 0.001
        time.sleep(max(0, due - time.monotonic()))


def arrivals(rig):
    """p99 of 50 clients while 1,000 others a second come and go, against the calm; the same at Redis."""
    lines = []
    for server in (rig.redis, rig.sidecar):
        ratios = []
        for _ in range(rig.arguments.rounds):
            calm, stop = rig.load(server, ["GET k3"])["p99"], threading.Event()
            storm = threading.Thread(target=connecting, args=(server.port, stop))
            storm.start()
            ratios.append(rig.load(server, ["GET k3"])["p99"] / calm)
            stop.set()
            storm.join()
        lines.append(f"{server.name} {statistics.median(ratios):.2f}")
    return "\n**p99 of 50 clients while 1,000 clients a second connect, PING and leave, over p99 in calm**: " + ", ".join(lines)


def deaf_clients(port, count):
    """Half of them subscribe, half ask for much; none reads, and the kernel keeps little for each."""
    request = b"*2\r\n$3\r\nGET\r\n$6\r\nk65536\r\n" * 20
    for i in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n" if i % 2 else request)
        yield client


def publishing(port, stop):
    """A message of 10 KB a second, of which 500 clients take nothing."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        while not stop.wait(1):
            client.sendall(b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$10000\r\n" + b"n" * 10000 + b"\r\n")
            client.recv(100)


def deaf(rig):
    """p99 of 50 clients beside 1,000 that never read, of which half are subscribed to what is published, against the calm."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    lines = []
    for server in (rig.redis, rig.sidecar):
        ratios = []
        for _ in range(rig.arguments.rounds):
            calm, stop = rig.load(server, ["GET k3"])["p99"], threading.Event()
            clients = list(deaf_clients(server.port, 1000))
            storm = threading.Thread(target=publishing, args=(rig.redis.port, stop))
            storm.start()
            # What they asked for has been copied to where nobody takes it.
            time.sleep(4)
            ratios.append(rig.load(server, ["GET k3"])["p99"] / calm)
            stop.set()
            storm.join()
            for client in clients:
                client.close()
        lines.append(f"{server.name} {statistics.median(ratios):.2f}")
    return "\n**p99 of 50 clients beside 1,000 that never read, over p99 in calm**: " + ", ".join(lines)


def sockets(rig):
    """One client over a Unix socket and over TCP."""
    unix, tcp = (rig.load(rig.sidecar, ["GET k3"], clients=1, unix=unix) for unix in (True, False))
    hit = rig.load(rig.sidecar, ["HGETALL player:1:session"], clients=1, unix=True)
    return (
        f"\n**One client**: GET passed through p50 {unix['p50']} us over a Unix socket, {tcp['p50']} us over TCP; a cached HGETALL "
        f"{hit['p50']} us over a Unix socket"
    )


def scaling(rig):
    """CPU per cached hit of two workers over that of one: 1.00 where they do not get in each other's way. Throughput of both
    together needs more cores than the load leaves here."""
    one, two = rig.new_sidecar("one", 1), rig.new_sidecar("two", 2)
    told = {server: [] for server in (one, two)}
    for server in told:
        rig.load(server, ["HGETALL player:{}:session"], keys=PLAYERS, pipeline=500, fill=True)
    for _ in range(rig.arguments.rounds * 2 + 1):
        for server, rounds in told.items():
            rounds.append(rig.measure(server, ["HGETALL player:{}:session"], pipeline=50, keys=PLAYERS)["cpu"])
    ratio = statistics.median(b / a for a, b in zip(told[one], told[two], strict=True))
    return f"\n**Two workers**: CPU per cached HGETALL {ratio:.2f} of one worker's"


FIGURES = {
    "scaling": scaling, "cluster": clusters,
    "miss": misses, "idle": idle, "boot": boot, "renewals": renewals, "fanout": fanout, "arrivals": arrivals, "deaf": deaf,
    "sockets": sockets, "mappings": mappings, "scrape": scrape, "transactions": transactions, "writers": writers,
    "staleness": staleness, "writes": writes, "cold": cold, "tracked": tracked, "near": near,
}
