"""The cache of valkey-glide in the process itself (client-side caching), on owned keys and on others, unchanged.

It asks to be told of all keys (BCAST), and keeps GET, HGETALL and SMEMBERS. A reply that is under way when its key changes it
may keep for longer than it should, from any server: here nothing is being read when something changes.
"""

import redis
from glide_shared.cache import ClientSideCache
from glide_sync import GlideClient, GlideClientConfiguration, NodeAddress

from game import PORT, session, sql, until, zipf

NAME = "keeps"
plain = redis.Redis(port=PORT, protocol=3, decode_responses=True)


def caching(name=""):
    cache = ClientSideCache.create(max_cache_kb=10_000, entry_ttl_ms=0, enable_metrics=True, server_assisted=True)
    here = [NodeAddress("127.0.0.1", PORT)]
    return GlideClient.create(GlideClientConfiguration(here, client_name=name, client_side_cache=cache))


def connection():
    """The connection of the client that keeps, as the sidecar lists it; None while it has none."""
    return next((client for client in plain.client_list() if client["name"] == NAME), None)


def asked():
    """How many commands that client has sent over it, as the sidecar counts them."""
    return int(connection()["tot-cmds"])


def hp_of(client, player):
    return client.hgetall(session(player))[b"hp"].decode()


r = caching(NAME)
assert connection()["flags"] == "tB", "it tracks all keys"

# What was read once is read here from then on, definitions and cached keys alike.
sword, player = r.hgetall("item:iron_sword:def"), r.hgetall(session(61))
assert sword[b"name"] == b"Iron Sword"
plain.set("{cached}:plain", "1")
assert r.get("{cached}:plain") == b"1"
assert r.get_cache_entry_count() == 3
before = asked()
for _ in range(500):
    assert r.hgetall("item:iron_sword:def") == sword and r.hgetall(session(61)) == player
    assert r.get("{cached}:plain") == b"1"
assert asked() - before < 20, "they were answered in the process"

# Of reads as games do them 99 of 100 are answered here, by what the library counts and by what the sidecar does.
reads, lookups, missed = zipf(20_000), r.get_cache_total_lookups(), r.get_cache_total_lookups() * r.get_cache_miss_rate()
for player in reads:
    r.hgetall(session(player))
assert r.get_cache_total_lookups() - lookups == len(reads)
missed = r.get_cache_total_lookups() * r.get_cache_miss_rate() - missed
assert missed <= len(reads) / 100, f"{missed} misses"
assert asked() - before <= len(reads) / 100, "the sidecar has hardly been asked"

# What is read when the cache has been told is new: after a change by SQL, by another client, and by itself.
changes = (
    lambda hp: sql(f"UPDATE sessions SET hp = {hp} WHERE character_id = 61"),
    lambda hp: plain.hset(session(61), "hp", hp),
    lambda hp: r.hset(session(61), {"hp": str(hp)}),
)
for hp in range(10, 40):
    hp_of(r, 61)
    kept = r.get_cache_entry_count()
    changes[hp % len(changes)](hp)
    until("it is told", lambda: r.get_cache_entry_count() == kept - 1)
    assert hp_of(r, 61) == str(hp)
plain.set("{cached}:plain", "2")
until("the upstream's own keys change", lambda: r.get("{cached}:plain") == b"2")

# Told to forget everything, as after a gap of the change feed, it does.
assert r.get_cache_entry_count() > 0
plain.flushall()
until("all is forgotten", lambda: r.get_cache_entry_count() == 0)
assert r.get("{cached}:plain") is None

# A connection that is lost takes the cache with it: nothing that changed meanwhile is read as it was.
for hp in range(50, 55):
    hp_of(r, 61)
    gone = connection()["id"]
    plain.client_kill_filter(_id=gone)
    sql(f"UPDATE sessions SET hp = {hp} WHERE character_id = 61")
    plain.hset(session(62), "hp", hp)
    until("others see it", lambda: plain.hget(session(61), "hp") == str(hp))
    until("it is back", lambda: (connection() or {"id": gone})["id"] != gone)
    assert hp_of(r, 61) == str(hp) and hp_of(r, 62) == str(hp)
r.close()
