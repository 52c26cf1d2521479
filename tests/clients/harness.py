"""Starts real servers and a sidecar, and runs the workloads of the client libraries against it."""

import argparse
import fcntl
import glob
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


LOCKS = []


def free_port():
    """A port that no other test takes before this process ends; see tests/it/support/ports.rs."""
    folder = pathlib.Path(tempfile.gettempdir(), "hearthside-ports")
    if not folder.exists():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    for port in random.sample(range(10_000, 30_000), 1000):
        try:
            lock = (folder / str(port)).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            continue
        LOCKS.append(lock)
        return port
    raise SystemExit("no port is free")


def until(what, holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"never happened: {what}")
        time.sleep(0.01)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Postgres:
    """A cluster of its own; Postgres refuses to run as root."""

    def __init__(self, folder, settings=""):
        self.folder, self.port = folder, free_port()
        self.prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.prefix:
            shutil.chown(folder, "postgres")
        self.data = f"{folder}/data"
        self.run("initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8", "-D", self.data)
        options = f"-p {self.port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off {settings}"
        self.run("pg_ctl", "start", "-w", "-D", self.data, "-l", f"{folder}/log", "-o", options)
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program, *arguments):
        found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"))
        command = [*self.prefix, found[-1] if found else program, *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    def stop(self):
        self.run("pg_ctl", "stop", "-m", "immediate", "-D", self.data)


def redis_server(folder, program="redis-server"):
    port = free_port()
    server = subprocess.Popen([program, "--port", str(port), "--save", "", "--dir", folder], stdout=subprocess.DEVNULL)
    until("redis-server answers", lambda: answers(port))
    return server, port


class SentinelGroup:
    """A master, a replica, and three sentinels that watch over them."""

    def __init__(self, folder):
        self.processes = []
        master, replica = free_port(), free_port()
        self.start(f"{folder}/master", "--port", str(master), "--save", "")
        self.start(f"{folder}/replica", "--port", str(replica), "--save", "", "--replicaof", f"127.0.0.1 {master}")
        ports = [free_port() for _ in range(3)]
        for port in ports:
            home = pathlib.Path(f"{folder}/{port}")
            home.mkdir()
            (home / "sentinel.conf").write_text(f"port {port}\nsentinel monitor game 127.0.0.1 {master} 2\n")
            self.start(home, f"{home}/sentinel.conf", "--sentinel")
        for port in [master, replica, *ports]:
            until("a server answers", lambda port=port: answers(port))
        self.url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/game"

    def start(self, folder, *arguments):
        os.makedirs(folder, exist_ok=True)
        self.processes.append(subprocess.Popen(["redis-server", *arguments], cwd=folder, stdout=subprocess.DEVNULL))

    def stop(self):
        for process in self.processes:
            process.terminate()
            process.wait()


class Cluster:
    """Three masters, each with so many replicas."""

    def __init__(self, folder, replicas=1):
        self.processes, ports = [], [free_port() for _ in range(3 * (1 + replicas))]
        buses = [free_port() for _ in ports]
        for port, bus in zip(ports, buses, strict=True):
            home, asked = f"{folder}/{port}", ["--port", port, "--cluster-enabled", "yes", "--cluster-port", bus, "--save", ""]
            os.makedirs(home)
            self.processes.append(subprocess.Popen(["redis-server", *map(str, asked)], cwd=home, stdout=subprocess.DEVNULL))
        for port in ports:
            until("a node answers", lambda port=port: answers(port))
        self.ports, self.url = ports, "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        nodes = [f"127.0.0.1:{port}@{bus}" for port, bus in zip(ports, buses, strict=True)]
        create = ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", str(replicas), "--cluster-yes"]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
        for port in ports:
            until("the cluster serves", lambda port=port: "cluster_state:ok" in asked_of(port, "CLUSTER", "INFO"))

    def stop(self):
        for process in self.processes:
            process.terminate()
            process.wait()


def asked_of(port, *words):
    return subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=True).stdout


class Sidecar:
    """The program under test, its log kept."""

    def __init__(self, program, folder, postgres, upstream, settings):
        self.log = pathlib.Path(f"{folder}/log")
        environment = {
            **os.environ,
            "HEARTHSIDE__STORE__URL": postgres.url,
            "HEARTHSIDE__UPSTREAM__URL": upstream,
            "HEARTHSIDE__SERVER__LISTEN": "127.0.0.1:0",
            "HEARTHSIDE__ADMIN__LISTEN": "127.0.0.1:0",
            "HEARTHSIDE__NOTIFY__KEYSPACE": "true",
            **settings,
        }
        self.process = subprocess.Popen([program], cwd=folder, env=environment, stderr=self.log.open("w"))
        until("the sidecar listens", lambda: "ready for clients" in self.log.read_text())
        self.port = re.search(r"ready for clients listen=127.0.0.1:(\d+)", self.log.read_text()).group(1)
        until("the change feed is connected", lambda: "change feed of Postgres is connected" in self.log.read_text())

    def stop(self):
        """What is wrong with how it ended, if anything."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        noise = [line for line in self.log.read_text().splitlines() if " WARN " in line or "ERROR" in line]
        return [f"the sidecar ended with {code}", *noise] if code != 0 or noise else []


def jobs(arguments):
    """Name, command and environment of every job."""
    python, node = HERE / "python", pathlib.Path(arguments.node)
    for protocol in ("2", "3"):
        for script in ("workload_sync", "workload_async", "jobs", "queues", "events"):
            yield f"{script}.py with RESP{protocol}", [sys.executable, f"{python}/{script}.py"], {"PROTOCOL": protocol}
        no_hiredis = {"PROTOCOL": protocol, "HIREDIS": "no"}
        yield f"jobs.py with RESP{protocol} without hiredis", [sys.executable, f"{python}/jobs.py"], no_hiredis
        for script in ("workload", "socketio", "sessions"):
            yield f"{script}.mjs with RESP{protocol}", ["node", f"{node}/{script}.mjs"], {"PROTOCOL": protocol}
    for script in ("ioredis", "bullmq"):
        yield f"{script}.mjs", ["node", f"{node}/{script}.mjs"], {}
    if arguments.others:
        for script, command in (("phpredis.php", "php"), ("predis.php", "php"), ("ruby.rb", "ruby"), ("perl.pl", "perl")):
            yield script, [command, f"{arguments.others}/{script}"], {}
        for binary in arguments.binaries:
            yield pathlib.Path(binary).name, [binary], {}


def caching(arguments, upstream):
    """The jobs of libraries that keep keys themselves, some of them with newer servers only."""
    python, protocol = HERE / "python", {"PROTOCOL": "3"}
    for script in ("caching", "caching_glide"):
        yield f"{script}.py", [sys.executable, f"{python}/{script}.py"], protocol
    yield "caching.mjs", ["node", f"{arguments.node}/caching.mjs"], protocol
    own_tests = [f"{python}/caching_tests.py", arguments.sidecar, arguments.redis_py, upstream]
    yield "caching_tests.py", [sys.executable, *own_tests], protocol


def run(sidecar, postgres, topology, mode, chosen):
    """The names of the jobs that fail."""
    failed = []
    for name, command, settings in chosen:
        environment = {**os.environ, "PORT": sidecar.port, "STORE": postgres.url, "PUBSUB": mode, "TOPOLOGY": topology, **settings}
        try:
            code = subprocess.run(command, env=environment, timeout=60).returncode
        except subprocess.TimeoutExpired:
            code = "no end in sight"
        print(("ok   " if code == 0 else f"FAIL ({code}) ") + name, flush=True)
        failed += [name] if code else []
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sidecar", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--newer", required=True, help="a redis-server of 7.4 or later")
    parser.add_argument("--redis-py", required=True, help="the sources of redis-py, with its tests")
    parser.add_argument("--others")
    parser.add_argument("--binaries", nargs="*", default=[])
    parser.add_argument("--only", default="", help="run only the jobs whose names match")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for name in ("pg", "redis", "newer", "exact", "shared", "caching", "sentinels", "sentinel", "cluster"):
            os.mkdir(f"{folder}/{name}")
        postgres = Postgres(f"{folder}/pg")
        server, port = redis_server(f"{folder}/redis")
        newer, newer_port = redis_server(f"{folder}/newer", arguments.newer)
        migrate = {**os.environ, "HEARTHSIDE__STORE__URL": postgres.url}
        subprocess.run([arguments.sidecar, "migrate", "--demo"], check=True, cwd=f"{folder}/exact", env=migrate)
        everything = [job for job in jobs(arguments) if re.search(arguments.only, job[0])]
        keeping = [job for job in caching(arguments, f"redis://127.0.0.1:{newer_port}") if re.search(arguments.only, job[0])]
        # With shared subscriptions PUBLISH counts connections, which some of the jobs look at.
        publishing = [job for job in everything if job[0].startswith("socketio")]
        single = f"redis://127.0.0.1:{port}"
        rounds = [("exact", "single", "exact", single, everything), ("shared", "single", "shared", single, publishing)]
        rounds += [("caching", "single", "exact", f"redis://127.0.0.1:{newer_port}", keeping)]
        # Every topology with every library, where all of them are asked for.
        groups = {}
        if arguments.others:
            groups = {"sentinel": SentinelGroup(f"{folder}/sentinels"), "cluster": Cluster(f"{folder}/nodes")}
        rounds += [(name, name, "exact", group.url, everything) for name, group in groups.items()]
        for name, topology, mode, upstream, chosen in rounds:
            print(f"upstream {upstream}, pubsub.mode = {mode}", flush=True)
            sidecar = Sidecar(arguments.sidecar, f"{folder}/{name}", postgres, upstream, {"HEARTHSIDE__PUBSUB__MODE": mode})
            failed += run(sidecar, postgres, topology, mode, chosen) + sidecar.stop()
        for group in groups.values():
            group.stop()
        for process in (server, newer):
            process.terminate()
            process.wait()
        postgres.stop()
    print("all passed" if not failed else "\n".join(["failed:", *failed]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
