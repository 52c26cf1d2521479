"""Starts real servers and a sidecar, and runs the workloads of the client libraries against it."""

import argparse
import glob
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


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

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.prefix:
            shutil.chown(folder, "postgres")
        self.data = f"{folder}/data"
        self.run("initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8", "-D", self.data)
        options = f"-p {self.port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "start", "-w", "-D", self.data, "-l", f"{folder}/log", "-o", options)
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program, *arguments):
        found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"))
        command = [*self.prefix, found[-1] if found else program, *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    def stop(self):
        self.run("pg_ctl", "stop", "-m", "immediate", "-D", self.data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sidecar", required=True)
    parser.add_argument("--node", required=True)
    arguments = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for name in ("pg", "redis", "sidecar"):
            os.mkdir(f"{folder}/{name}")
        postgres = Postgres(f"{folder}/pg")
        port = free_port()
        redis = subprocess.Popen(["redis-server", "--port", str(port), "--save", "", "--dir", f"{folder}/redis"], stdout=subprocess.DEVNULL)
        until("redis-server answers", lambda: answers(port))
        environment = {
            **os.environ,
            "HEARTHSIDE__STORE__URL": postgres.url,
            "HEARTHSIDE__UPSTREAM__URL": f"redis://127.0.0.1:{port}",
            "HEARTHSIDE__SERVER__LISTEN": "127.0.0.1:0",
            "HEARTHSIDE__ADMIN__LISTEN": "127.0.0.1:0",
        }
        work = f"{folder}/sidecar"
        subprocess.run([arguments.sidecar, "migrate", "--demo"], check=True, cwd=work, env=environment)
        log = open(f"{folder}/log", "w")
        sidecar = subprocess.Popen([arguments.sidecar], cwd=work, env=environment, stderr=log)
        read_log = lambda: pathlib.Path(f"{folder}/log").read_text()
        until("the sidecar listens", lambda: "ready for clients" in read_log())
        listen = re.search(r"ready for clients listen=127.0.0.1:(\d+)", read_log()).group(1)
        until("the change feed is connected", lambda: "change feed of Postgres is connected" in read_log())
        workloads = [
            [sys.executable, str(HERE / "workload_sync.py")],
            [sys.executable, str(HERE / "workload_async.py")],
            ["node", arguments.node],
        ]
        for command in workloads:
            for protocol in ("2", "3"):
                settings = {**os.environ, "PORT": listen, "PROTOCOL": protocol, "STORE": postgres.url}
                done = subprocess.run(command, env=settings, timeout=120)
                name = f"{pathlib.Path(command[-1]).name} with RESP{protocol}"
                print(("ok   " if done.returncode == 0 else "FAIL ") + name, flush=True)
                passed, failed = passed + (done.returncode == 0), failed + (done.returncode != 0)
        sidecar.send_signal(signal.SIGTERM)
        code = sidecar.wait(20)
        noise = [line for line in read_log().splitlines() if " WARN " in line or "ERROR" in line]
        if code != 0 or noise:
            print(f"FAIL the sidecar ended with {code}; its log:", *noise, sep="\n")
            failed += 1
        redis.terminate()
        redis.wait()
        postgres.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
