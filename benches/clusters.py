"""The same requests over one server and over a cluster of three masters: what they cost the sidecar."""

import statistics

from harness import Cluster  # rig.py has put its folder on the path
from rig import CONFIG

KEYS = 1000
COMMANDS = {"GET": ["GET k{}"], "SET": ["SET k{} {x}"], "mixed": ["GET k{}", "SET k{} {x}", "EXISTS k{}"]}


def clusters(rig):
    """CPU per command of a sidecar before a cluster over that of one before a single server, and both rates."""
    nodes = Cluster(f"{rig.folder}/nodes", replicas=0)
    rig.stack.callback(nodes.stop)
    process, many = rig.run_sidecar("before-a-cluster", 1, CONFIG, {"HEARTHSIDE__UPSTREAM__URL": nodes.url})
    rig.start(process)
    one, lines = rig.new_sidecar("before-one", 1), ["\n**Over a cluster of 3 masters, against one server**"]
    for server in (one, many):
        rig.load(server, COMMANDS["SET"], keys=KEYS, pipeline=100, fill=True)
    for pipeline in (50, 1):
        for name, commands in COMMANDS.items():
            told = {server: [] for server in (one, many)}
            for _ in range(rig.arguments.rounds):
                for server, rounds in told.items():
                    rounds.append(rig.measure(server, commands, pipeline=pipeline, keys=KEYS))
            cpu, rate = ({server: statistics.median(one[figure] for one in told[server]) for server in told} for figure in ("cpu", "rate"))
            lines.append(
                f"{name}, pipeline {pipeline}: CPU of the sidecar {cpu[many]:.2f} us per command, {cpu[one]:.2f} over one server: "
                f"{cpu[many] / cpu[one]:.2f}; {rate[many]:,.0f} requests/s, {rate[one]:,.0f}: {rate[many] / rate[one]:.2f}"
            )
    return "\n- ".join(lines)
