"""What a command costs with 400 mappings whose keys begin alike, over what it costs with one."""

import statistics
import subprocess

from rig import SESSION

from harness import until  # rig.py has put its folder on the path

COUNT = 400

# What is asked, and the block without which its key is a pass-through key.
ASKED = {
    "GET of a key that no mapping owns": ("GET player:{}:name", "caches"),
    "HGETALL of a definition": ("HGETALL player:{}:d0", "definitions"),
    "HGETALL of a cached key": ("HGETALL player:{}:d1", "caches"),
}


def block(kind, number):
    """A mapping of its own keys."""
    ttl = 'ttl = "1h"\n' if kind == "caches" else ""
    return f'[[{kind}]]\nkey = "player:{{character_id:int}}:d{number}"\ntype = "hash"\ntable = "beside"\n{ttl}\n'


def shows(server, key):
    """True when the server answers with a record."""
    asked = ["redis-cli", "-p", str(server.port), "HGETALL", key]
    return len(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()) > 2


def mappings(rig):
    """CPU per command at pipeline 50: with one mapping, with 400, and the median of the ratios of two rounds beside each other."""
    columns = ", ".join(SESSION)
    rig.sql(f"CREATE TABLE beside AS SELECT character_id, {columns} FROM sessions WHERE character_id < 100")
    rig.sql("ALTER TABLE beside ADD PRIMARY KEY (character_id)")
    all_blocks = block("definitions", 0) + "".join(block("caches", i) for i in range(1, COUNT))
    many = rig.new_sidecar("many", 1, config=all_blocks)
    alone = {
        "definitions": rig.new_sidecar("one-definition", 1, config=block("definitions", 0)),
        "caches": rig.new_sidecar("one-cached", 1, config=block("caches", 1)),
    }
    for server, key in ((many, "d0"), (many, "d1"), (alone["definitions"], "d0"), (alone["caches"], "d1")):
        until(f"{server.name} shows {key}", lambda server=server, key=key: shows(server, f"player:7:{key}"), seconds=60)
    lines = ["\n**400 mappings whose keys begin alike**, CPU us/op at pipeline 50\n", "| | one | 400 | ratio |", "|---|---|---|---|"]
    for title, (command, kind) in ASKED.items():
        pairs, how = [], {"pipeline": 50, "keys": 100}
        for server in (many, alone[kind]):
            rig.load(server, [command], keys=100, pipeline=50, fill=True)
        for _ in range(rig.arguments.rounds * 2 + 1):
            pairs.append([rig.measure(server, [command], **how)["cpu"] for server in (alone[kind], many)])
        one, all_of_them = (statistics.median(told) for told in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        lines.append(f"| {title} | {one:.3f} | {all_of_them:.3f} | {ratio:.2f} |")
    return "\n".join(lines)
