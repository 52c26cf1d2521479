"""How long Prometheus waits for /metrics of a sidecar with 400 mappings and 5,000 clients that have names."""

import resource
import socket
import statistics
import time
import urllib.request

from mappings import COUNT, block
from rig import SESSION

from harness import free_port  # rig.py has put its folder on the path

CLIENTS, SCRAPES = 5000, 30


def scraped(port):
    """Seconds, and what was sent."""
    begun = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read()
    return time.monotonic() - begun, text


def scrape(rig):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (CLIENTS + 1000, max(CLIENTS + 1000, hard)))
    columns, port = ", ".join(SESSION), free_port()
    rig.sql(f"CREATE TABLE IF NOT EXISTS beside AS SELECT character_id, {columns} FROM sessions WHERE character_id < 100")
    # Of all mappings one has the key that is declared.
    rig.sql("CREATE UNIQUE INDEX IF NOT EXISTS beside_key ON beside (character_id)")
    more = {"HEARTHSIDE__ADMIN__LISTEN": f"127.0.0.1:{port}"}
    process, sidecar = rig.run_sidecar("scraped", 1, "".join(block("caches", i) for i in range(COUNT)), more)
    rig.start(process)
    clients = [socket.create_connection(("127.0.0.1", sidecar.port)) for _ in range(CLIENTS)]
    for number, client in enumerate(clients):
        client.sendall(b"CLIENT SETNAME service-%d\r\n" % (number % 1000))
    for client in clients:
        assert client.recv(100) == b"+OK\r\n"
    cpu = sidecar.cpu()
    told = [scraped(port) for _ in range(SCRAPES)]
    cpu, times, text = (sidecar.cpu() - cpu) / SCRAPES * 1000, [time for time, _ in told], told[-1][1]
    for client in clients:
        client.close()
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    return (
        f"\n**/metrics with {COUNT} mappings and {CLIENTS:,} clients**: {series:,} series, {len(text) / 1024:.0f} KiB in "
        f"{statistics.median(times) * 1000:.1f} ms, at most {max(times) * 1000:.1f} ms; {cpu:.1f} ms of CPU"
    )
