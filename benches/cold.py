"""How soon sidecars that start again answer from memory as they did before, and what that costs Postgres: one, and fifty at
once, with `cache.warm`, with a pause between loads as well, and without either."""

import json
import re
import socket
import statistics
import subprocess
import time

from axis import CONFIG, KEYS, asked, counted_site
from rig import Place, Server

from harness import answers, until  # rig.py has put its folder on the path

# For so many sidecars: reads and foreign writes in a second, of all together.
CASES = {1: (1000, 50), 50: (5000, 50)}
STEADY, RECOVERY, EVERY = 8, 40, 0.25

# So little that fifty fit: one worker, few connections.
SMALL = {
    "HEARTHSIDE__SERVER__WORKERS": "1", "HEARTHSIDE__CACHE__MAX_BYTES": "16mb", "HEARTHSIDE__STORE__MAX_CONNECTIONS": "2",
    "HEARTHSIDE__UPSTREAM__LANES": "1", "HEARTHSIDE__UPSTREAM__PINNED_MAX": "8", "HEARTHSIDE__LIMITS__CLIENTS": "64",
}

WARM = {"HEARTHSIDE__CACHE__WARM": "warm"}
PAUSE = "50ms"
WAYS = {"cold": {}, "warm": WARM, f"warm, loads {PAUSE} apart": {**WARM, "HEARTHSIDE__STORE__LOAD_PAUSE": PAUSE}}

# All, and those of the sidecars.
COUNTED = """SELECT coalesce(sum(calls), 0), coalesce(sum(calls) FILTER (WHERE rolname <> 'application'), 0)
FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid WHERE query NOT LIKE '%pg_stat_statements%';
"""


class Watch:
    """What the sidecars and Postgres have counted at each moment."""

    def __init__(self, site, ports):
        ask = ["psql", "-XqAt", "-F", " ", site.postgres.url]
        self.psql = subprocess.Popen(ask, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.ports, self.open = ports, {}

    def lookups(self, port):
        """Hits and misses of a sidecar, if it is there."""
        try:
            if port not in self.open:
                self.open[port] = socket.create_connection(("127.0.0.1", port)).makefile("rwb")
            file = self.open[port]
            file.write(b"INFO hearthside\r\n")
            file.flush()
            counts = dict(re.findall(r"hearthside_cache_(\w+):(\d+)", file.read(int(file.readline()[1:]) + 2).decode()))
            return [int(counts[what]) for what in ("hits", "misses")]
        except (OSError, ValueError, KeyError):
            self.open.pop(port, None)
            return None

    def look(self):
        """When, whether all sidecars are there, their hits and misses, and the statements."""
        now = time.monotonic()
        self.psql.stdin.write(COUNTED)
        statements = [int(word) for word in self.psql.stdout.readline().split()]
        told = [self.lookups(port) for port in self.ports]
        hits, misses = (sum(one[at] for one in told if one) for at in (0, 1))
        return {"at": now, "all": all(told), "hits": hits, "misses": misses, "statements": statements[0], "own": statements[1]}

    def series(self, seconds):
        """What is seen at each moment, for so long."""
        seen, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            due = time.monotonic() + EVERY
            seen.append(self.look())
            time.sleep(max(0, due - time.monotonic()))
        return seen

    def end(self):
        self.psql.stdin.close()
        self.psql.wait()
        for file in self.open.values():
            file.close()


def ratio(first, last):
    """Hits among the reads between two moments; `None` where nobody read."""
    hits, misses = (last[what] - first[what] for what in ("hits", "misses"))
    return hits / (hits + misses) if hits + misses > 0 else None


def a_second(first, last, what):
    return (last[what] - first[what]) / (last["at"] - first["at"])


def pairs(series, seconds):
    """The moments of a series that are so far from each other."""
    apart = round(seconds / EVERY)
    return zip(series, series[apart:])


def stop(processes):
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


class Fleet:
    """So many sidecars before one Postgres, and what their clients ask."""

    def __init__(self, rig, site, count, settings):
        self.rig, self.site, self.count = rig, site, count
        more = {**SMALL, "HEARTHSIDE__STORE__URL": site.postgres.url, **settings}
        site.number += 1
        self.places = [Place(rig, f"cold{site.number}-{i}", CONFIG, more) for i in range(count)]
        self.places[0].prepare(rig.arguments.sidecar)

    def start(self):
        return [place.start(self.rig.arguments.sidecar) for place in self.places]

    def read(self, seconds):
        """Clients that wait until their sidecar is there, and the application's writes."""
        reads, writes = CASES[self.count]
        ports, clients = ",".join(str(place.port) for place in self.places), max(16, self.count)
        how = {"ports": ports, "clients": clients, "reads": reads, "writes": writes, "unwritten": 0, "seconds": seconds}
        return subprocess.Popen(asked(self.rig, "sidecar", self.site, **how), stdout=subprocess.PIPE, text=True)

    def steady(self, watch):
        """Every key in memory, and then for a while what an ordinary day is like."""
        processes = self.start()
        for place, process in zip(self.places, processes, strict=True):
            until("a sidecar answers", lambda place=place: answers(place.port), seconds=60)
            server = Server("cold", place.port, process.pid)
            self.rig.load(server, ["GET profile:{}"], keys=KEYS, pipeline=500, fill=True)
        load = self.read(2 * STEADY)
        watch.series(STEADY - 1)
        seen = watch.series(STEADY)
        load.communicate()
        stop(processes)
        return seen[0], seen[-1]

    def restart(self, watch):
        """All at once, while their clients already wait; from the first start on."""
        load = self.read(RECOVERY)
        seen, processes = [watch.look()], self.start()
        seen += watch.series(RECOVERY - 1)
        told = json.loads(load.communicate()[0])
        stop(processes)
        return seen, told["failed"]


def judged(steady, seen):
    """Figures of one restart."""
    first, last = steady
    usual = ratio(first, last)
    begun = seen[0]["at"]

    def when(holds):
        return next((b["at"] - begun for a, b in pairs(seen, 2 * EVERY) if a["all"] and b["all"] and holds(ratio(a, b))), None)

    told = {"ratio": usual, "there": when(lambda _: True), "seconds": when(lambda now: now is not None and now >= 0.95 * usual)}
    for what in ("statements", "own"):
        told[what] = a_second(first, last, what)
        told[f"peak {what}"] = max(a_second(a, b, what) for a, b in pairs(seen, 1))
    return told


def restarted(rig, site, count, settings):
    """One life, and the next."""
    fleet = Fleet(rig, site, count, settings)
    watch = Watch(site, [place.port for place in fleet.places])
    try:
        steady = fleet.steady(watch)
        seen, failed = fleet.restart(watch)
        return {**judged(steady, seen), "failed": failed}
    finally:
        watch.end()


def cold(rig):
    """Seconds until 95 % of the steady hit ratio, and Postgres's peak over its steady rate."""
    site = counted_site(rig, "cold", "-c max_connections=1000")
    lines = [
        f"\n**Restart under load** ({KEYS:,} keys in each sidecar; statements in the second with most of them; medians of "
        f"{rig.arguments.rounds} rounds)\n",
        "| sidecars | start | all answer after | 95 % of the steady hit ratio after | steady hit ratio "
        "| all statements a second: steady | peak | of steady | the sidecars' own: steady | peak | of steady | failed reads |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for count in CASES:
        for name, settings in WAYS.items():
            rounds = [restarted(rig, site, count, settings) for _ in range(rig.arguments.rounds)]
            lines.append(line(count, name, rounds))
    return "\n".join(lines)


def after(seconds):
    return f"over {RECOVERY - 1} s" if seconds == float("inf") else f"{seconds:.1f} s"


def line(count, name, rounds):
    def median(figure):
        return statistics.median(float("inf") if one[figure] is None else one[figure] for one in rounds)

    cells = [count, name, after(median("there")), after(median("seconds")), f"{100 * median('ratio'):.1f} %"]
    for what in ("statements", "own"):
        peak = statistics.median(one[f"peak {what}"] / one[what] for one in rounds)
        cells += [f"{median(what):,.0f}", f"{median(f'peak {what}'):,.0f}", f"{peak:.2f}"]
    return "| " + " | ".join(map(str, [*cells, f"{median('failed'):.0f}"])) + " |"
