"""From a machine with Debian's packages to a shop's first owned key, and back: runs the commands of docs/ADOPTION.md as
they stand there, on free ports in a temporary folder, and says how long each step took."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from page import ROOT, Broken, Place, blocks

PAGE = ROOT / "docs/ADOPTION.md"

# What takes its time by the machine, and is measured apart.
BEFORE = ("packages", "build")
MOST_OF_ALL = 300
MOST_BACK = 5


class Shell:
    """One bash, as somebody has it open who follows the page: jobs and the folder stay from step to step."""

    def __init__(self, place):
        self.place = place
        tools = place.folder / "bin"
        tools.mkdir()
        (tools / "hearthside").symlink_to(place.program)
        # The cluster here is not the machine's: whoever runs this is its superuser, without sudo.
        (tools / "sudo").write_text('#!/bin/sh\n[ "$1" = -u ] && shift 2\nexec "$@"\n')
        (tools / "sudo").chmod(0o755)
        environment = {**place.environment, "PATH": f"{tools}:{os.environ['PATH']}"}
        self.log = (place.folder / "shell.log").open("w+")
        command = ["bash", "-euo", "pipefail"]
        self.bash = subprocess.Popen(
            command, cwd=place.work, env=environment, stdin=subprocess.PIPE, stdout=self.log, stderr=self.log, text=True
        )
        self.ended = 0

    def output(self):
        return (self.place.folder / "shell.log").read_text()

    def run(self, block):
        """Runs a block to its end; how long it took."""
        began, self.ended = time.monotonic(), self.ended + 1
        mark = f"step {self.ended} has ended"
        self.bash.stdin.write(f"{self.place.made_here(block.text)}echo '{mark}'\n")
        self.bash.stdin.flush()
        while mark not in self.output():
            if self.bash.poll() is not None:
                raise Broken(f"{block.place}: the step '{block.name}' failed\n{self.output()}")
            if time.monotonic() - began > 60:
                raise Broken(f"{block.place}: the step '{block.name}' does not end\n{self.output()}")
            time.sleep(0.005)
        return time.monotonic() - began

    def close(self):
        """Ends the sidecar that a step has left in the background, and the shell."""
        if self.bash.poll() is None:
            self.bash.stdin.write('[ -z "$(jobs -p)" ] || { kill $(jobs -p); wait; }\n')
            self.bash.stdin.close()
            self.bash.wait(30)


def asked(place, *words):
    command = ["redis-cli", "-p", str(place.port), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def must(what, holds, seconds):
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise Broken(f"not within {seconds} s: {what}")
        time.sleep(0.005)
    return time.monotonic() - began


def price(place, expected):
    return lambda: asked(place, "HGET", "product:tea", "price").strip() == expected


def owner(place, expected):
    return lambda: expected in asked(place, "HEARTHSIDE", "EXPLAIN", "product:tea")


def reloaded(place, times):
    return lambda: (place.work / "hearthside.log").read_text().count("the configuration is reloaded") >= times


def adopt(place, steps):
    """Runs the steps, and looks at what each of them has brought about."""
    place_of_step = {block.name: block for block in steps}
    looks = {
        "1-pass-through": [("Redis answers", price(place, "4.00"))],
        "2-shadow": [("Redis still answers", price(place, "4.00"))],
        "4-on": [("the sidecar owns the key", owner(place, "cached")), ("the table's price is shown", price(place, "4.50"))],
        "4-stays": [("the configuration is read again", reloaded(place, 2)), ("the key is owned", owner(place, "cached"))],
        "5-changes": [("the change is seen", price(place, "5.00"))],
        "back": [("Redis owns the key", owner(place, "upstream")), ("Redis answers", price(place, "4.00"))],
    }
    missing = [name for name in looks if name not in place_of_step]
    if missing:
        raise Broken(f"{PAGE.name} has no steps {missing}")
    shell, whole = Shell(place), 0.0
    try:
        for block in steps:
            took = shell.run(block)
            took += sum(must(what, holds, MOST_BACK) for what, holds in looks.get(block.name, []))
            print(f"{took:8.2f} s  {block.name}", flush=True)
            if block.name != "back":
                whole += took
            elif took > MOST_BACK:
                raise Broken(f"back to plain Redis took {took:.1f} s, more than {MOST_BACK}")
            if block.name == "4-on":
                print(f"{whole:8.2f} s  all until the first owned key", flush=True)
        if whole > MOST_OF_ALL:
            raise Broken(f"the steps took {whole:.0f} s, more than {MOST_OF_ALL}")
    finally:
        shell.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sidecar", required=True)
    parser.add_argument("--page", default=PAGE, type=pathlib.Path)
    arguments = parser.parse_args()
    steps = [block for block in blocks(arguments.page) if block.language == "sh" and block.name not in ("", *BEFORE)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        place = Place(folder, pathlib.Path(arguments.sidecar).resolve())
        print(f"{time.monotonic() - began:8.2f} s  (a Postgres and a Redis of its own)", flush=True)
        try:
            adopt(place, steps)
        except Broken as broken:
            print(broken, flush=True)
            return 1
        finally:
            place.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
