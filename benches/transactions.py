"""Transactions and long pipelines in one write: one client, to the last byte of the last reply, near and with an upstream a
millisecond away in each direction; the same at Redis, near and through the same delay."""

import socket
import statistics
import subprocess
import sys
import time

from rig import HERE, Server

from harness import answers, free_port, until  # rig.py has put its folder on the path

DELAY = 1


def encoded(words):
    return f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)


def transaction(commands, lines, watched):
    """Its bytes, and how many lines its replies are."""
    words = [["WATCH", "k3"]] * watched + [["MULTI"], *commands, ["EXEC"]]
    return "".join(map(encoded, words)).encode(), len(words) + lines


SETS = [["SET", f"tx{i}", "value"] for i in range(1000)]
LONG = [["SET", f"tx{i}", "v" * 1300] for i in range(2500)]
MIXED = [words for i in range(50) for words in (SETS[i], ["HGET", f"player:{i}:session", "hp"])]
CASES = {
    "MULTI, 1,000 commands, EXEC": transaction(SETS, 1000, False),
    "WATCH, MULTI, 100 commands, EXEC": transaction(SETS[:100], 100, True),
    "WATCH, MULTI, 1,000 commands, EXEC": transaction(SETS, 1000, True),
    "MULTI, 2,500 commands of 1.3 KB (3.3 MB), EXEC": transaction(LONG, 2500, False),
    "50 SETs and 50 HGETs of cached keys in turn": transaction(MIXED, 150, False),
    "20,000 GETs, no transaction": ((encoded(["GET", "k3"]) * 20_000).encode(), 40_000),
}


def took(client, request, lines):
    begun = time.perf_counter()
    client.sendall(request)
    while lines > 0:
        piece = client.recv(1 << 18)
        if not piece:
            sys.exit("a connection was closed")
        lines -= piece.count(b"\r\n")
        if piece.endswith(b"\r"):
            lines -= 1
            client.recv(1)
    return (time.perf_counter() - begun) * 1000


def measured(servers, rounds):
    """Milliseconds of each case, medians; the servers in turn, so that what else the machine does falls on all alike."""
    clients = [socket.create_connection(("127.0.0.1", server.port)) for server in servers]
    told = {name: [[] for _ in servers] for name in CASES}
    for client in clients:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, (request, lines) in CASES.items():
        for _ in range(rounds + 3):
            for times, client in zip(told[name], clients):
                times.append(took(client, request, lines))
    # The first three are for who has not done it before.
    return {name: [statistics.median(times[3:]) for times in of_servers] for name, of_servers in told.items()}


def far_away(rig):
    """Redis behind the delay."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "delay.py"), str(port), str(rig.redis.port), str(DELAY)])
    rig.start(process)
    until("the delay answers", lambda: answers(port))
    return Server("redis, far", port, process.pid)


def transactions(rig):
    far = far_away(rig)
    sidecar = rig.new_sidecar("far", 1, upstream=far.port)
    for server in (rig.sidecar, sidecar):
        rig.load(server, ["HGETALL player:{}:session"], keys=100, pipeline=100, fill=True)
    rounds, lines = rig.arguments.rounds * 7, [
        f"\n**Transactions in one write, ms** (one client, medians of {rig.arguments.rounds * 7}; far: {DELAY} ms in each direction)\n",
        "| | Redis | hearthside | of Redis | Redis, far | hearthside, far | of Redis |", "|---|---|---|---|---|---|---|",
    ]
    for name, told in measured([rig.redis, rig.sidecar, far, sidecar], rounds).items():
        near, distant = told[1] / told[0], told[3] / told[2]
        lines.append(
            f"| {name} | {told[0]:.2f} | {told[1]:.2f} | {near:.2f} | {told[2]:.2f} | {told[3]:.2f} | {distant:.2f} |"
        )
    return "\n".join(lines)
