"""The code blocks of a page of docs, and what runs them: a Postgres, a Redis and a sidecar of their own.

A block says by its first line what it is. Readers see the first word only:

    ```sql                    is run with psql in the shop's database
    ```sql soon               must select true, now or within seconds
    ```toml                   is the sidecar's configuration: with it the sidecar is checked and started again
    ```python NAME            is a file; it is run, unless it is a module that another block imports
    ```js NAME                the same, with Node
    ```rust NAME              the same, with cargo and the crates of tests/recipes/rust
    ```sh NAME                belongs to the step NAME: scripts/adopt runs it
    ```text, ```sh            is shown only
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))

from harness import Postgres, answers, free_port, redis_server, until  # noqa: E402

# Imported by other blocks of their page, or by what they use.
MODULES = {"settings.py", "urls.py"}


@dataclass
class Block:
    """One code block, and where it stands."""

    language: str
    name: str
    text: str
    place: str


class Broken(Exception):
    """A block of a page does not do what the page says."""


def blocks(path):
    """The blocks of a page, in its order."""
    found, fence = [], re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = pathlib.Path(path).read_text()
    for match in fence.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2] or "", match[3], f"{pathlib.Path(path).name}:{line}"))
    fences = len(re.findall(r"^```", text, re.MULTILINE))
    if fences != 2 * len(found):
        raise Broken(f"{path}: {fences} fences and {len(found)} blocks: one says no language")
    return found


class Place:
    """A folder with servers, on free ports: those that the page names are replaced by them."""

    def __init__(self, folder, program, redis="redis-server"):
        self.folder, self.program = pathlib.Path(folder), program
        for name in ("pg", "redis", "work"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        self.work = self.folder / "work"
        self.postgres = Postgres(str(self.folder / "pg"))
        self.redis, self.redis_port = redis_server(str(self.folder / "redis"), redis)
        self.port, self.admin = free_port(), free_port()
        self.sidecar = None
        ports = {"5432": self.postgres.port, "6379": self.redis_port, "6380": self.port, "9180": self.admin}
        self.ports = {name: str(port) for name, port in ports.items()}
        self.environment = {
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": self.ports["5432"],
            "PGUSER": "postgres",
            "HEARTHSIDE__SERVER__LISTEN": f"127.0.0.1:{self.port}",
            "HEARTHSIDE__ADMIN__LISTEN": f"127.0.0.1:{self.admin}",
            "PYTHONPATH": str(self.work),
        }

    def made_here(self, text):
        """The same text, with the ports of this place."""
        return re.sub(r"\b(5432|6379|6380|9180)\b", lambda port: self.ports[port[0]], text)

    def run(self, command, block, text=None, environment=None, seconds=60):
        """What a command prints; it must not fail."""
        ended = subprocess.run(
            command, input=text, cwd=self.work, env=environment or self.environment, capture_output=True, text=True, timeout=seconds
        )
        if ended.returncode != 0:
            raise Broken(f"{block.place}: {' '.join(command)} ended with {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def psql(self, block, *more):
        shop = {**self.environment, "PGUSER": "shop", "PGDATABASE": "shop"}
        return self.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *more], block, block.text, shop)

    def make_database(self):
        block = Block("sql", "", "CREATE ROLE shop LOGIN; CREATE DATABASE shop OWNER shop", "the database")
        for statement in block.text.split("; "):
            self.run(["psql", "-X", "-q", "-d", "postgres", "-c", statement], block)

    def start(self, configuration, block):
        """Checks a configuration, and runs the sidecar with it."""
        self.stop()
        (self.work / "hearthside.toml").write_text(configuration)
        hearthside = [str(self.program), "--config", "hearthside.toml"]
        for words in (["migrate"], ["triggers", "--install"], ["check", "--connect"]):
            self.run([*hearthside, *words], block)
        self.log = self.folder / "log"
        self.sidecar = subprocess.Popen(hearthside, cwd=self.work, env=self.environment, stderr=self.log.open("w"))
        until("the sidecar is ready", lambda: answers(self.port) and "ready for clients" in self.log.read_text())
        until("the change feed is connected", lambda: "change feed of Postgres is connected" in self.log.read_text())

    def stop(self):
        """Ends the sidecar, which must have had nothing to complain of but what the store refused."""
        if self.sidecar is None:
            return
        self.sidecar.send_signal(signal.SIGTERM)
        code, self.sidecar = self.sidecar.wait(20), None
        lines = self.log.read_text().splitlines()
        noise = [line for line in lines if (" WARN " in line or " ERROR " in line) and "a write failed" not in line]
        if code != 0 or noise:
            raise Broken("\n".join([f"the sidecar ended with {code}", *noise]))

    def close(self):
        if self.sidecar is not None:
            self.sidecar.kill()
            self.sidecar.wait()
        self.redis.terminate()
        self.redis.wait()
        self.postgres.stop()


class Runner:
    """Runs the blocks of a page, one after the other."""

    def __init__(self, place, tools):
        self.place, self.tools = place, pathlib.Path(tools)

    def block(self, block):
        block.text = self.place.made_here(block.text)
        does = getattr(self, block.language, None)
        if does is None:
            raise Broken(f"{block.place}: nothing runs a block of {block.language}")
        does(block)

    def text(self, block):
        """Is shown only."""

    def sh(self, block):
        if block.name:
            raise Broken(f"{block.place}: a recipe has no steps for scripts/adopt")

    def sql(self, block):
        if block.name != "soon":
            self.place.psql(block)
            return
        deadline = time.monotonic() + 10
        while (found := self.place.psql(block, "-A", "-t").strip()) != "t":
            if time.monotonic() > deadline:
                raise Broken(f"{block.place}: it is never true, but {found!r}")
            time.sleep(0.05)

    def toml(self, block):
        self.place.start(block.text, block)

    def python(self, block):
        self.program(block, sys.executable)

    def js(self, block):
        modules = self.place.work / "node_modules"
        if not modules.exists():
            modules.symlink_to(self.tools / "node/node_modules")
        self.program(block, "node")

    def rust(self, block):
        self.write(block)
        package, target = self.tools / "rust", self.tools / "rust/target"
        shutil.copy(self.place.work / block.name, package / "src/main.rs")
        cargo = ["cargo", "build", "--quiet", "--manifest-path", str(package / "Cargo.toml"), "--target-dir", str(target)]
        self.place.run(cargo, block, seconds=600)
        self.place.run([str(target / "debug/hearthside-recipes")], block)

    def program(self, block, interpreter):
        self.write(block)
        if block.name not in MODULES:
            self.place.run([interpreter, block.name], block)

    def write(self, block):
        if not block.name:
            raise Broken(f"{block.place}: a program has no file name")
        (self.place.work / block.name).write_text(block.text)
