"""Measures redis-server, the sidecar and whichever other proxies are installed, in turn and in one run: throughput, CPU per
command from each process's own accounting, percentiles. Prints ratios; quote those, machines differ and are noisy."""

import argparse
import datetime
import functools
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import tempfile

import draw
from figures import FIGURES
from rig import HERE, PLAYERS, Rig


def medians(rig, servers, measure):
    """Every server in turn, several times; of each figure the median."""
    rounds = {server.name: [] for server in servers}
    for _ in range(rig.arguments.rounds):
        for server in servers:
            rounds[server.name].append(measure(server))

    def median(all, figure):
        return None if all[0][figure] is None else statistics.median(one[figure] for one in all)

    return {name: {figure: median(all, figure) for figure in all[0]} for name, all in rounds.items()}


def compare(rig, servers, commands, **how):
    figures = ("rate", "cpu", "p50", "p99", "p999")

    def measure(server):
        told = rig.measure(server, commands, **how)
        return {figure: told[figure] for figure in figures}

    return medians(rig, servers, measure)


def table(title, results, base="redis"):
    lines = [f"\n**{title}**\n", "| | requests/s | of Redis | CPU us/op | of Redis | p50 us | p99 us | p99.9 us |", "|---|---|---|---|---|---|---|---|"]
    for name, told in results.items():
        rate, cpu = told["rate"] / results[base]["rate"], told["cpu"] / results[base]["cpu"]
        lines.append(
            f"| {name} | {told['rate']:,.0f} | {rate:.2f} | {told['cpu']:.2f} | {cpu:.2f} | {told['p50']:.0f} | {told['p99']:.0f} "
            f"| {'' if told['p999'] is None else round(told['p999'])} |"
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
    both = [rig.redis, rig.sidecar, *rig.before]
    for pipeline in (1, 50):
        yield f"HGETALL of a definition, pipeline {pipeline}", compare(rig, both, ["HGETALL location:1:cache"], pipeline=pipeline)
        yield f"HGETALL of a session, pipeline {pipeline}", compare(rig, both, ["HGETALL player:1:session"], pipeline=pipeline)
    yield "HGETALL of 10,000 sessions, pipeline 50", compare(rig, both, ["HGETALL player:{}:session"], pipeline=50, keys=PLAYERS)
    yield "LRANGE of 20 rows, pipeline 50", compare(rig, both, ["LRANGE player:{}:inventory 0 -1"], pipeline=50, keys=PLAYERS)
    yield "HGET of a session, pipeline 50", compare(rig, both, ["HGET player:1:session hp"], pipeline=50)
    mixed = ["HGETALL player:{}:session", "HGET player:{}:session hp", "LRANGE player:{}:inventory 0 -1", "GET k3", "SET k{} {x}"]
    yield "Mixed, pipeline 5", compare(rig, both, mixed, pipeline=5, keys=PLAYERS)


def benchmarked(server, pipeline, count, command):
    """What redis-benchmark says of `count` requests of 50 clients, and what they cost the server."""
    asked = ["-p", server.port, "-c", 50, "-P", pipeline, "-n", count, "--csv", *command]
    cpu = server.cpu()
    told = subprocess.run(["redis-benchmark", *map(str, asked)], capture_output=True, text=True, check=True).stdout
    cells = [cell.strip('"') for cell in told.splitlines()[-1].split('","')]
    rate, p50, p99 = float(cells[1]), float(cells[4]) * 1000, float(cells[6]) * 1000
    return {"rate": rate, "cpu": (server.cpu() - cpu) / count * 1e6, "p50": p50, "p99": p99, "p999": None}


HITS = {
    "HGETALL of a definition": (["HGETALL", "location:1:cache"], 400_000),
    "HGETALL of a session": (["HGETALL", "player:1:session"], 400_000),
    "LRANGE of 20 rows": (["LRANGE", "player:1:inventory", "0", "-1"], 200_000),
    "HGET of a session": (["HGET", "player:1:session", "hp"], 1_000_000),
}


def by_redis_benchmark(rig):
    """The load generator that everybody has, on keys that it can ask for."""
    passed, owned = [rig.redis, rig.sidecar, *rig.peers], [rig.redis, rig.sidecar, *rig.before]
    cases = [
        (f"{command[0]} passed through", passed, command, pipeline, count)
        for pipeline, count in ((1, 100_000), (50, 1_000_000)) for command in (["GET", "k3"], ["SET", "k3", "xxx"])
    ]
    cases += [(title, owned, command, 50, count) for title, (command, count) in HITS.items()]
    cases += [(title, owned, command, 1, 100_000) for title, (command, _) in list(HITS.items())[:2]]
    for title, servers, command, pipeline, count in cases:
        measure = functools.partial(benchmarked, pipeline=pipeline, count=count, command=command)
        yield f"{title} by redis-benchmark, pipeline {pipeline}", medians(rig, servers, measure)


GROUPS = {"passed": passed_through, "redis-benchmark": by_redis_benchmark, "owned": owned}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sidecar", required=True, type=os.path.abspath)
    parser.add_argument("--load", required=True, type=os.path.abspath)
    parser.add_argument("--fanout", required=True, type=os.path.abspath)
    parser.add_argument("--paced", required=True, type=os.path.abspath)
    parser.add_argument("--before", type=os.path.abspath, help="an earlier build of the sidecar, to compare with")
    parser.add_argument("--predixy", help="its program, which no distribution has")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", default="", help="one part: " + ", ".join([*GROUPS, *FIGURES]))
    parser.add_argument("--write", type=pathlib.Path, help="append what was measured to this file, and draw it beside it")
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
        # Whole runs have the tables that a picture is of.
        if not arguments.only:
            for picture in draw.write(arguments.write):
                print(f"drawn: {picture}")


if __name__ == "__main__":
    main()
