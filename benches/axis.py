"""What foreign writes cost those who read: the application writes by SQL, and reads through a sidecar, with cache-aside by
hand over Redis, or of Postgres alone. As many reads a second in every case, and the ways in turn in one run."""

import contextlib
import json
import statistics
import subprocess

from writers import Site

SHARES = (0, 1, 5, 10, 30)
READS = 4000
KEYS, UNWRITTEN = 1000, 200

CONFIG = """
[[caches]]
key = "profile:{profile_id:int}"
type = "string"
table = "profiles"
value = "body"
ttl = "1h"
"""

TABLE = f"""
CREATE EXTENSION pg_stat_statements;
CREATE ROLE application LOGIN SUPERUSER;
CREATE TABLE profiles (profile_id bigint PRIMARY KEY, body text);
INSERT INTO profiles SELECT i, lpad(i::text, 200, '0') FROM generate_series(0, {KEYS - 1}) AS i;
"""

# All but what the application writes, which is the same however it reads.
STATEMENTS = """
SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid
WHERE query NOT LIKE '%pg_stat_statements%' AND NOT (rolname = 'application' AND query LIKE 'UPDATE%')
"""


def counted_site(rig, name, settings=""):
    """A Postgres that counts statements, and the table that is read and written."""
    site = Site(rig, name, f"-c shared_preload_libraries=pg_stat_statements {settings}")
    site.sql(TABLE)
    return site


def application(site):
    """The URL of who writes, and reads where there is no sidecar."""
    return site.postgres.url.replace("postgres@", "application@")


def asked(rig, way, site, **how):
    """The command of the load; settings of it by name."""
    words = [rig.arguments.paced, "--way", way, "--store", application(site), "--keys", KEYS]
    for name, value in how.items():
        words += [f"--{name}", value]
    return [str(word) for word in words]


@contextlib.contextmanager
def way(rig, site, name):
    """Who is asked, and its port."""
    if name in ("replication", "notify"):
        with site.followed(name, CONFIG) as server:
            yield "sidecar", server.port
    elif name == "cache-aside":
        yield "aside", rig.redis.port
        keys = " ".join(f"profile:{i}" for i in range(KEYS))
        subprocess.run(["redis-cli", "-p", str(rig.redis.port), "DEL", *keys.split()], check=True, stdout=subprocess.DEVNULL)
    else:
        yield "postgres", 0


def lookups(port):
    """Hits and misses of a sidecar so far."""
    told = subprocess.run(["redis-cli", "-p", str(port), "INFO", "hearthside"], capture_output=True, text=True, check=True).stdout
    counts = dict(line.split(":", 1) for line in told.split() if ":" in line)
    return [int(counts[f"hearthside_cache_{what}"]) for what in ("hits", "misses")]


def measured(rig, site, asks, port, share):
    """One share of writes by one way."""
    writes = READS * share / (100 - share)
    seconds = max(2, rig.arguments.seconds)
    how = {"ports": port, "reads": READS, "writes": writes, "unwritten": UNWRITTEN}
    site.sql("VACUUM profiles")
    subprocess.run([*asked(rig, asks, site, **how, seconds=0), "--fill"], check=True, stdout=subprocess.DEVNULL)
    before = lookups(port) if asks == "sidecar" else None
    site.sql("SELECT pg_stat_statements_reset()")
    told = json.loads(subprocess.run(asked(rig, asks, site, **how, seconds=seconds), capture_output=True, text=True, check=True).stdout)
    told["statements"] = int(site.sql(STATEMENTS)) / told["count"] * 1000
    told["ratio"] = told["found"] / told["count"]
    if before:
        hits, misses = (after - earlier for after, earlier in zip(lookups(port), before, strict=True))
        told["ratio"] = hits / (hits + misses)
    if told["failed"]:
        raise SystemExit(f"{told['failed']} reads failed")
    return told


WAYS = ("replication", "notify", "cache-aside", "Postgres alone")


def writes(rig):
    """Hit ratio, hits' percentiles and statements at Postgres by the share of foreign writes."""
    site, told = counted_site(rig, "writes"), {(share, name): [] for share in SHARES for name in WAYS}
    for _ in range(rig.arguments.rounds):
        for name in WAYS:
            with way(rig, site, name) as (asks, port):
                for share in SHARES:
                    told[share, name].append(measured(rig, site, asks, port, share))
    lines = [
        f"\n**Foreign writes beside {READS:,} reads a second** ({KEYS:,} keys, medians of {rig.arguments.rounds} rounds; hits are "
        f"reads of keys that are never written, with Postgres alone as well; a hit's p99 over that without writes, by round)\n",
        "| writes | | writes a second | hit ratio | a hit: p50 us | p99 us | of no writes | a read: p99 us | statements for 1,000 reads |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (share, name), rounds in told.items():
        def median(figure):
            return statistics.median(figure(one) for one in rounds)

        calm = statistics.median(b["hits"]["p99"] / a["hits"]["p99"] for a, b in zip(told[0, name], rounds, strict=True))
        ratio = "" if name == "Postgres alone" else f"{100 * median(lambda one: one['ratio']):.1f} %"
        lines.append(
            f"| {share} % | {name} | {median(lambda one: one['written'] / one['seconds']):,.0f} | {ratio} "
            f"| {median(lambda one: one['hits']['p50']):.0f} | {median(lambda one: one['hits']['p99']):.0f} | {calm:.2f} "
            f"| {median(lambda one: one['reads']['p99']):.0f} | {median(lambda one: one['statements']):,.0f} |"
        )
    return "\n".join(lines)
