"""Pass-through keys that are answered from memory (`[[near]]`): what a hit costs beside Redis's own GET, how soon a write by
somebody else is seen, and how many reads are left at the upstream."""

import multiprocessing
import random
import re
import socket
import statistics
import subprocess
import time

from rig import CONFIG
from writers import at

KEYS, HOT, READS, PROCESSES, WRITES = 1000, 10, 100_000, 4, 1000

BLOCK = """
[[near]]
keys = "k*"
ttl = "5m"
"""


def connected(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def get(key):
    return command(b"GET", b"k%d" % key)


def asked(client, request, length):
    client.sendall(request)
    told = b""
    while len(told) < length:
        told += client.recv(length - len(told))
    return told


def hits(rig, server):
    """CPU of a hit over that of Redis for the same GET, by pipeline."""
    lines = []
    for pipeline in (50, 1):
        told = {one: [] for one in (rig.redis, server)}
        for _ in range(rig.arguments.rounds):
            for one, rounds in told.items():
                rounds.append(rig.measure(one, ["GET k{}"], pipeline=pipeline, keys=KEYS))
        cpu, rate = ({one: statistics.median(r[figure] for r in rounds) for one, rounds in told.items()} for figure in ("cpu", "rate"))
        lines.append(
            f"a hit, pipeline {pipeline}: {cpu[server]:.2f} us of CPU, {cpu[rig.redis]:.2f} of Redis for its GET: "
            f"{cpu[server] / cpu[rig.redis]:.2f}; {rate[server]:,.0f} requests/s, {rate[rig.redis]:,.0f}: {rate[server] / rate[rig.redis]:.2f}"
        )
    return lines


def foreign(rig, server):
    """Milliseconds from the answer to a SET at Redis until a client of the sidecar reads the value."""
    reader, writer, times = connected(server.port), connected(rig.redis.port), []
    for number in range(WRITES):
        value = b"%03d" % (number % 1000)
        asked(reader, get(1), 9)
        asked(writer, command(b"SET", b"k1", value), 5)
        begun = time.perf_counter()
        while asked(reader, get(1), 9) != b"$3\r\n%b\r\n" % value:
            pass
        times.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.001)
    return f"a write at the upstream is read {at(times, 0.5):.2f} ms later (p50), {at(times, 0.99):.2f} ms (p99), of {WRITES:,}"


def reads(port, seed):
    """99 of 100 reads are of one key in a hundred."""
    client, dice = connected(port), random.Random(seed)
    for _ in range(READS // 100):
        keys = [dice.randrange(HOT) if dice.random() < 0.99 else dice.randrange(HOT, KEYS) for _ in range(100)]
        asked(client, b"".join(map(get, keys)), 100 * 9)


def gets(rig):
    told = subprocess.run(["redis-cli", "-p", str(rig.redis.port), "INFO", "commandstats"], capture_output=True, text=True, check=True)
    calls = re.search(r"cmdstat_get:calls=(\d+)", told.stdout)
    return int(calls.group(1)) if calls else 0


def skewed(rig, server):
    before = gets(rig)
    processes = [multiprocessing.Process(target=reads, args=(server.port, seed)) for seed in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    left, all_of_them = gets(rig) - before, READS * PROCESSES
    return f"of {all_of_them:,} reads by {PROCESSES} processes {left:,} were asked at the upstream: {100 * (1 - left / all_of_them):.2f} % fewer"


def pays(rig, server, plain):
    """CPU of the sidecar and of Redis for each command, with the block over without it, by the share of reads. All keys are
    asked for alike, and written by clients of the sidecar."""
    lines = ["| reads of 100 commands | us of CPU with the block, sidecar and Redis | without | with over without |", "|---|---|---|---|"]
    for reads in (100, 99, 95, 90, 75, 50):
        writes = 100 - reads
        commands = ["GET k{}"] * reads + ["SET k{} yyy"] * writes
        told = {one: [] for one in (server, plain)}
        for _ in range(rig.arguments.rounds):
            for one, rounds in told.items():
                before = rig.redis.cpu()
                measured = rig.measure(one, commands, pipeline=50, keys=KEYS)
                rounds.append((measured["cpu"], (rig.redis.cpu() - before) / measured["requests"] * 1e6))
        cpu = {one: [statistics.median(part) for part in zip(*rounds)] for one, rounds in told.items()}
        shown = {one: f"{own + upstream:.2f} = {own:.2f} + {upstream:.2f}" for one, (own, upstream) in cpu.items()}
        lines.append(f"| {reads} | {shown[server]} | {shown[plain]} | {sum(cpu[server]) / sum(cpu[plain]):.2f} |")
    return "\n" + "\n".join(lines)


def near(rig):
    plain = rig.new_sidecar("plain", 1)
    server = rig.new_sidecar("near", 1, config=CONFIG + BLOCK)
    keys = "".join(f"SET k{i} xxx\r\n" for i in range(KEYS))
    subprocess.run(["redis-cli", "-p", str(rig.redis.port), "--pipe"], input=keys, text=True, check=True, stdout=subprocess.DEVNULL)
    return "\n- ".join(["\n**Pass-through keys from memory**", skewed(rig, server), *hits(rig, server), foreign(rig, server)]) + "\n" + pays(rig, server, plain)
