"""What the change feed costs those who write to Postgres, and how soon what they have committed is seen. All on one server with
wal_level=logical, whether it is needed or not; the ways in turn, so that what else the machine does falls on all alike."""

import contextlib
import os
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import threading
import time
import urllib.parse

from rig import PLAYERS, SESSION, TABLES

from harness import Postgres, until  # rig.py has put its folder on the path

CONFIG = """
[[caches]]
key = "player:{character_id:int}:session"
type = "hash"
table = "sessions"
ttl = "1h"
"""

BARE = """CREATE FUNCTION bare() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('bare', ''); RETURN NULL; END $$;
CREATE TRIGGER bare AFTER UPDATE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION bare()"""

# Probes of one rate of writes, and keys that only they write.
PROBES, PROBED = 400, 50


class Site:
    """A Postgres, what is written to it, and the sidecars that follow it."""

    def __init__(self, rig, name, settings=""):
        self.rig, self.name, folder = rig, name, f"{rig.folder}/{name}"
        os.mkdir(folder)
        self.postgres = Postgres(folder, f"-c wal_level=logical -c autovacuum=off -c max_wal_size=4GB {settings}")
        rig.stack.callback(self.postgres.stop)
        self.master = pathlib.Path(f"{self.postgres.data}/postmaster.pid").read_text().split()[0]
        self.sql(TABLES)
        self.script = pathlib.Path(f"{folder}/write.sql")
        self.script.write_text(
            f"\\set id random({PROBED}, {PLAYERS - 1})\n\\set hp random(0, 100)\n"
            "UPDATE sessions SET hp = :hp WHERE character_id = :id;\n"
        )
        self.number = 0

    def sql(self, text):
        ask = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.postgres.url]
        return subprocess.run(ask, input=text, text=True, capture_output=True, check=True).stdout.strip()

    def write(self, clients, seconds, rate=None):
        """pgbench: what it says, and the CPU seconds of its backends, which their parent has when they have ended."""
        def ended():
            fields = pathlib.Path(f"/proc/{self.master}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

        self.sql("VACUUM sessions")
        time.sleep(0.2)
        limit, before = [] if rate is None else ["-R", str(rate)], ended()
        command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-T", str(seconds), "-f", str(self.script), *limit]
        told = subprocess.run([*command, self.postgres.url], capture_output=True, text=True, check=True).stdout
        done = int(re.search(r"transactions actually processed: (\d+)", told).group(1))
        if not done:
            # The machine was too busy to connect all clients in time.
            return self.write(clients, seconds, rate)
        time.sleep(0.2)
        return {"rate": float(re.search(r"tps = ([\d.]+)", told).group(1)), "cpu": (ended() - before) / done * 1e6}

    @contextlib.contextmanager
    def none(self):
        yield

    @contextlib.contextmanager
    def recvlogical(self):
        """The floor of replication: the server decodes the publication for somebody who throws it away."""
        self.sql("CREATE PUBLICATION floor FOR TABLE sessions")
        base = ["pg_recvlogical", "-d", self.postgres.url, "-S", "floor"]
        subprocess.run([*base, "--create-slot", "-P", "pgoutput"], check=True)
        options = ["-o", "proto_version=1", "-o", "publication_names=floor", "-f", "/dev/null", "-F", "0"]
        process = subprocess.Popen([*base, "--start", *options])
        until("it streams", lambda: self.sql("SELECT count(*) FROM pg_stat_replication") == "1")
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            until("it has ended", lambda: self.sql("SELECT count(*) FROM pg_stat_replication") == "0")
            self.sql("SELECT pg_drop_replication_slot('floor'); DROP PUBLICATION floor")

    @contextlib.contextmanager
    def bare_notify(self):
        """The floor of notices: a trigger that does nothing but send one."""
        self.sql(BARE)
        try:
            yield
        finally:
            self.sql("DROP FUNCTION bare CASCADE")

    @contextlib.contextmanager
    def listened_notify(self):
        """The same while somebody listens, and throws away what is sent: each commit wakes the listener's backend."""
        with self.bare_notify():
            url = urllib.parse.urlsplit(self.postgres.url)
            listener = socket.create_connection((url.hostname, url.port))
            login = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
            listen = b"LISTEN bare\0"
            sized = [struct.pack("!I", len(text) + 4) + text for text in (login, listen)]
            listener.sendall(sized[0] + b"Q" + sized[1])
            reader = threading.Thread(target=lambda: all(iter(lambda: listener.recv(1 << 18), b"")))
            reader.start()
            listening = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN bare' AND state = 'idle'"
            until("it listens", lambda: self.sql(listening) == "1")
            try:
                yield
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                reader.join()
                listener.close()

    @contextlib.contextmanager
    def followed(self, feed, config=CONFIG):
        """A sidecar whose change feed is up."""
        self.number += 1
        more = {"HEARTHSIDE__STORE__FEED": feed, "HEARTHSIDE__STORE__URL": self.postgres.url}
        process, server = self.rig.run_sidecar(f"{self.name}-{feed}{self.number}", 1, config, more)
        feed_is_up = ["redis-cli", "-p", str(server.port), "INFO", "hearthside"]
        up = "hearthside_change_feed_up:1"
        until("the feed is up", lambda: up in subprocess.run(feed_is_up, capture_output=True, text=True, check=True).stdout)
        try:
            yield server
        finally:
            process.terminate()
            process.wait()
            self.sql("DROP PUBLICATION IF EXISTS hearthside; DROP SCHEMA IF EXISTS hearthside CASCADE")

    @contextlib.contextmanager
    def full(self, feed):
        """The same, with every session in memory."""
        with self.followed(feed) as server:
            self.rig.load(server, ["HGETALL player:{}:session"], keys=PLAYERS, pipeline=500, fill=True)
            yield server

    def ways(self):
        return {
            "none": self.none, "pg_recvlogical": self.recvlogical, "replication": lambda: self.full("replication"),
            "a trigger with NOTIFY": self.bare_notify, "the same, listened to": self.listened_notify,
            "notify": lambda: self.full("notify"), "outbox": lambda: self.full("outbox"),
        }


# Over what each way is measured.
FLOORS = {
    "replication": ["pg_recvlogical"], "the same, listened to": ["a trigger with NOTIFY"],
    "notify": ["a trigger with NOTIFY", "the same, listened to"], "outbox": ["none"],
}


def writers(rig):
    """Updates of one row by key, per second and CPU of the writers' backends, beside each way to be told of them."""
    site, seconds, lines = Site(rig, "writers"), max(2, round(rig.arguments.seconds)), []
    ways = site.ways()
    site.write(8, 1)
    for clients in (8, 32):
        told = {name: [] for name in ways}
        for _ in range(rig.arguments.rounds):
            for name, way in ways.items():
                with way():
                    told[name].append(site.write(clients, seconds))
        lines += [
            f"\n**Updates of one row by key, {clients} clients of pgbench** (medians of {rig.arguments.rounds} rounds of {seconds} s)\n",
            "| | a second | of none | of its floors | CPU us of the writer's backend | of none |", "|---|---|---|---|---|---|",
        ]
        median = {name: {f: statistics.median(one[f] for one in all) for f in ("rate", "cpu")} for name, all in told.items()}

        def ratio(name, base, figure):
            """The median of the ratios of measurements that were beside each other."""
            return statistics.median(a[figure] / b[figure] for a, b in zip(told[name], told[base], strict=True))

        for name in ways:
            floor = ", ".join(f"{ratio(name, floor, 'rate'):.2f}" for floor in FLOORS.get(name, []))
            lines.append(
                f"| {name} | {median[name]['rate']:,.0f} | {ratio(name, 'none', 'rate'):.2f} | {floor} "
                f"| {median[name]['cpu']:.1f} | {ratio(name, 'none', 'cpu'):.2f} |"
            )
    return "\n".join(lines)


class Writer:
    """Commits one update after the other, over a psql that stays open."""

    def __init__(self, url):
        self.psql = subprocess.Popen(["psql", "-XqAt", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def commit(self, key, value):
        """The moment when it was known to be committed."""
        self.psql.stdin.write(f"UPDATE sessions SET hp = {value} WHERE character_id = {key};\n\\echo done\n")
        self.psql.stdin.flush()
        self.psql.stdout.readline()
        return time.perf_counter()

    def end(self):
        self.psql.stdin.close()
        self.psql.wait()


def probed(writer, server):
    """Milliseconds from a commit until its value is shown, of many commits; and of a hit beside each."""
    client, seen, hits = socket.create_connection(("127.0.0.1", server.port)), [], []
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(PROBES):
        key, value = i % PROBED, 1000 + i
        request, wanted = f"HGET player:{key}:session hp\r\n".encode(), f"${len(str(value))}\r\n{value}\r\n".encode()
        for _ in range(2):
            begun = time.perf_counter()
            client.sendall(request)
            client.recv(100)
        hits.append((time.perf_counter() - begun) * 1000)
        begun, shown = writer.commit(key, value), b""
        while shown != wanted:
            client.sendall(request)
            shown = client.recv(100)
            if time.perf_counter() - begun > 10:
                raise SystemExit(f"player:{key} was never shown: {shown}")
        seen.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.005)
    return seen, hits


def beside(site, server, rate):
    """The same while others write so often; and how often they did."""
    command = ["pgbench", "-n", "-M", "prepared", "-c", "8", "-T", "600", "-R", str(rate), "-f", str(site.script)]
    others = subprocess.Popen([*command, site.postgres.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    writer = Writer(site.postgres.url)
    try:
        time.sleep(1)
        before, begun = committed(site), time.monotonic()
        seen, hits = probed(writer, server)
        return seen, hits, (committed(site) - before - PROBES) / (time.monotonic() - begun)
    finally:
        others.terminate()
        others.wait()
        writer.end()


def committed(site):
    """Transactions so far, as far as it is known."""
    return int(site.sql("SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'"))


def staleness(rig):
    """How old a value may be that a foreign commit has replaced, while others write so often. A hit's own time says what the
    machine adds."""
    site, rates, rounds = Site(rig, "staleness"), (100, 1000, 5000), rig.arguments.rounds
    feeds = ("replication", "notify", "outbox")
    told = {(feed, rate): ([], [], []) for rate in rates for feed in feeds}
    for _ in range(rounds):
        for feed in feeds:
            with site.full(feed) as server:
                for rate in rates:
                    seen, hits, reached = beside(site, server, rate)
                    of_all = told[feed, rate]
                    of_all[0].extend(seen), of_all[1].extend(hits), of_all[2].append(reached)
    lines = [
        f"\n**Staleness after a foreign commit, ms** ({PROBES * rounds} commits each, beside writers at this rate)\n",
        "| | writes a second | reached | p50 | p90 | p99 | a hit: p50 | p90 | p99 |", "|---|---|---|---|---|---|---|---|---|",
    ]
    for (feed, rate), (seen, hits, reached) in told.items():
        figures = [f"{at(all, share):.1f}" for all in (seen, hits) for share in (0.5, 0.9, 0.99)]
        lines.append(f"| {feed} | {rate:,} | {statistics.median(reached):,.0f} | {' | '.join(figures)} |")
    return "\n".join(lines)


def at(times, share):
    return sorted(times)[int(len(times) * share)]
