"""The tests that redis-py has of its cache, as they are in its source package: on owned keys instead of a Redis's own.

Two of them cannot be run so. One takes for granted that FLUSHALL removes the keys, and owned keys are rows: that it empties the
cache all the same is looked at in caching.py. The other wants a key to be a hash that is a string for the others.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace

from game import sql

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from harness import Sidecar  # noqa: E402

program, sources, upstream = sys.argv[1:]
OTHERS = "not server_flush and not not_allowed"
TESTS = 15

# What they call their keys: foo, foo2, ..., bar and hash_foo_key with the fields bar and bar2.
CONFIG = """
[[caches]]
key = "fo{foo}"
type = "string"
table = "library_foo"
value = "v"
write = "through"
delete = "row"

[[caches]]
key = "ba{bar}"
type = "string"
table = "library_bar"
value = "v"
write = "through"
delete = "row"

[[caches]]
key = "hash_{id}"
type = "hash"
table = "library_hashes"
write = "through"
delete = "row"
"""
sql("CREATE TABLE library_foo (foo text PRIMARY KEY, v text)")
sql("CREATE TABLE library_bar (bar text PRIMARY KEY, v text)")
sql("CREATE TABLE library_hashes (id text PRIMARY KEY, bar text, bar2 text)")

with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "config.toml").write_text(CONFIG)
    environment = {**os.environ, "HEARTHSIDE__STORE__URL": os.environ["STORE"]}
    for words in (["migrate"], ["triggers", "--install"]):
        subprocess.run([program, *words], check=True, cwd=folder, env=environment, capture_output=True)
    sidecar = Sidecar(program, folder, SimpleNamespace(url=os.environ["STORE"]), upstream, {})
    pytest = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "tests/test_cache.py::TestCache", "-k", OTHERS]
    pytest += [f"--redis-url=redis://127.0.0.1:{sidecar.port}/0", "--protocol=3"]
    ended = subprocess.run(pytest, cwd=sources, capture_output=True, text=True)
    passed = re.search(r"^(\d+) passed", ended.stdout, re.MULTILINE)
    assert ended.returncode == 0 and passed and int(passed[1]) == TESTS, ended.stdout + ended.stderr
    faults = sidecar.stop()
    assert not faults, faults

rows = sql("SELECT string_agg(foo || '=' || v, ' ' ORDER BY foo) FROM library_foo")
assert rows == "o=baz o2=bar2 o3=bar3 o4=bar4", f"the keys were owned: {rows}"
