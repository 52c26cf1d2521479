"""The cache of redis-py in the process itself (client-side caching), on owned keys and on others, unchanged."""

import threading
import time

import redis
from redis.cache import CacheConfig

from game import PORT, inventory, session, sql, until, zipf


def caching():
    return redis.Redis(port=PORT, protocol=3, decode_responses=True, cache_config=CacheConfig(max_size=1000))


def asked(r):
    """How many commands the client has sent, as the sidecar counts them."""
    me = r.client_id()
    return int(plain.client_list(client_id=[me])[0]["tot-cmds"])


plain = redis.Redis(port=PORT, protocol=3, decode_responses=True)
# What a client counts is shown by newer servers; older ones are asked by the size of the cache alone.
counts = "tot-cmds" in plain.client_info()

# What was read once is read here from then on, definitions and cached keys alike.
r = caching()
assert r.hget("item:iron_sword:def", "name") == "Iron Sword"
level = r.hget(session(61), "level")
items = r.lrange(inventory(61), 0, -1)
plain.set("{cached}:plain", "1")
assert r.get("{cached}:plain") == "1"
size = r.get_cache().size
assert size == 4, size
before = asked(r) if counts else 0
for _ in range(1000):
    assert r.hget("item:iron_sword:def", "name") == "Iron Sword"
    assert r.hget(session(61), "level") == level and r.lrange(inventory(61), 0, -1) == items
    assert r.get("{cached}:plain") == "1"
assert r.get_cache().size == size
if counts:
    assert asked(r) - before < 20, "they were answered in the process"

# Of reads as games do them 99 of 100 are answered here, definitions among them.
before = asked(r) if counts else 0
reads, kept = zipf(20_000), r.get_cache().size
for player in reads:
    r.hget(session(player), "level")
assert r.get_cache().size - kept <= 100, "each is kept once"
if counts:
    assert asked(r) - before <= len(reads) / 100, asked(r) - before

# By SQL, by another client, and by itself.
for hp in (11, 12, 13):
    sql(f"UPDATE sessions SET hp = {hp} WHERE character_id = 61")
    until("the change by SQL shows", lambda: r.hget(session(61), "hp") == str(hp))
plain.hset(session(61), "hp", 14)
until("a write of another client shows", lambda: r.hget(session(61), "hp") == "14")
r.hset(session(61), "hp", 15)
assert r.hget(session(61), "hp") == "15", "its own write shows at once"
name = sql("SELECT name FROM items WHERE item_id = 'apple'")
assert r.hget("item:apple:def", "name") == name
sql("UPDATE items SET name = 'Pear' WHERE item_id = 'apple'")
until("a definition changes", lambda: r.hget("item:apple:def", "name") == "Pear")
sql(f"UPDATE items SET name = '{name}' WHERE item_id = 'apple'")
until("and back", lambda: r.hget("item:apple:def", "name") == name)
plain.set("{cached}:plain", "2")
until("the upstream's own keys change", lambda: r.get("{cached}:plain") == "2")

# A connection that is lost takes the cache with it: nothing that changed meanwhile is read as it was.
for hp in range(50, 55):
    r.hget(session(61), "hp")
    gone = r.client_id()
    plain.client_kill_filter(_id=gone)
    plain.hset(session(61), "hp", hp)
    until("it is back", lambda: r.client_id() != gone)
    assert r.hget(session(61), "hp") == str(hp)

# Told to forget everything, as after a gap of the change feed, it does.
assert r.get("{cached}:plain") == "2"
plain.flushall()
until("all is forgotten", lambda: r.get("{cached}:plain") is None)

# While rows change, no client sees a value again that is older than what it has seen.
stop = threading.Event()


def change():
    for hp in range(100, 120):
        sql(f"UPDATE sessions SET hp = {hp} WHERE character_id = 62")
    stop.set()


def watch(failures):
    mine, last = caching(), 0
    while not stop.is_set():
        hp = int(mine.hget(session(62), "hp"))
        if last >= 100 and hp < last:
            failures.append((last, hp))
        last = hp
        # The thread that changes the row runs, too.
        time.sleep(0.001)
    deadline = time.monotonic() + 10
    while int(mine.hget(session(62), "hp")) != 119:
        if time.monotonic() > deadline:
            failures.append("the last change never shows")
            return


failures = []
threads = [threading.Thread(target=change), *(threading.Thread(target=watch, args=(failures,)) for _ in range(3))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
