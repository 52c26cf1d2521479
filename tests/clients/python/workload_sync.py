"""Workload 1 with redis-py, synchronous: what a game server does, through the sidecar."""

import json
import threading
import time

import redis

from game import LOCATION_FIELDS, PORT, PROTOCOL, SESSION_FIELDS, TOPOLOGY, error_of, inventory, session, sql

r = redis.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True, client_name="worker-1")


def until(what, holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, what


# Connection: name, id, ping, info.
assert r.ping() and r.client_getname() == "worker-1" and r.client_id() > 0
assert "redis_version" in r.info() and "hearthside_definitions" in r.info("hearthside")

# Definitions.
location = r.hgetall("location:overpass:cache")
assert list(location) == LOCATION_FIELDS, location
assert json.loads(location["exits"])["north"] == "gas_station"
assert r.hget("item:iron_sword:def", "name") == "Iron Sword"
assert r.hmget("item:iron_sword:def", "tier", "nosuch", "damage_max") == ["2", None, "11"]
assert r.hgetall("location:nowhere:cache") == {} and not r.exists("item:nosuch:def")
assert r.type("item:apple:def") == "hash" and r.ttl("item:apple:def") == -1

# Sessions and inventories, one by one and in a pipeline with and without MULTI.
assert set(SESSION_FIELDS) <= set(r.hgetall(session(5)))
assert 0 < r.ttl(session(5)) <= 1800
for transaction in (True, False):
    pipe = r.pipeline(transaction=transaction)
    for player in range(1, 21):
        pipe.hgetall(session(player))
        pipe.lrange(inventory(player), 0, -1)
        pipe.get(f"{{nosuch}}:{player}")
    replies = pipe.execute()
    for player in range(1, 21):
        assert replies[(player - 1) * 3]["level"] == str(player % 20 + 1)
        rows = [json.loads(row) for row in replies[(player - 1) * 3 + 1]]
        assert len(rows) == player * 8 % 21 and all(row["quantity"] >= 1 for row in rows)
        assert replies[(player - 1) * 3 + 2] is None
assert dict(r.hscan_iter(session(5), match="*hp"))["max_hp"] == "100"

# An item moves: whoever changed the row, both lists show it; DEL by cache-aside code does no harm.
before = r.llen(inventory(30)), r.llen(inventory(31))
row = sql(f"SELECT min(inventory_id) FROM inventory_items WHERE character_id = 31")
sql(f"UPDATE inventory_items SET character_id = 30 WHERE inventory_id = {row}")
r.delete(inventory(30), inventory(31))
until("the item moved", lambda: (r.llen(inventory(30)), r.llen(inventory(31))) == (before[0] + 1, before[1] - 1))
sql(f"UPDATE inventory_items SET character_id = 31 WHERE inventory_id = {row}")
until("the item moved back", lambda: (r.llen(inventory(30)), r.llen(inventory(31))) == before)

# Writes go through to Postgres, alone and in a transaction with pass-through keys.
level = int(r.hget(session(50), "level"))
assert r.hset(session(50), mapping={"hp": 77, "mood": "calm"}) == 1 and r.hincrby(session(50), "level", 2) == level + 2
assert sql("SELECT hp, level, attributes->>'mood' FROM sessions WHERE character_id = 50") == f"77|{level + 2}|calm"
r.delete("location:ruins:players")
with r.pipeline() as pipe:
    pipe.hset(session(50), "hp", 78).sadd("location:ruins:players", 50).hget(session(50), "hp").hincrby(session(50), "level", -2)
    pipe.hdel(session(50), "mood")
    assert pipe.execute() == [0, 1, "78", level, 1]
assert sql("SELECT hp, level FROM sessions WHERE character_id = 50") == f"78|{level}"
assert session(50) in set(r.scan_iter(match="player:5*", count=100))

# What cannot be done to an owned key is a clear error, and the connection goes on.
assert "the field 'hp' cannot be written" in error_of(lambda: r.hset(session(5), "hp", "many"))
assert "takes no writes" in error_of(lambda: r.rpush(inventory(5), "x"))
assert "LPUSH is not answered" in error_of(lambda: r.lpush(inventory(5), "x"))
assert "WRONGTYPE" in error_of(lambda: r.lrange(session(5), 0, -1))

# Pass-through: players in a location, connections of a worker, locks, counters, scripts, streams.
r.delete("location:overpass:players", "worker:1:connections", "stream", "queue")
assert r.sadd("location:overpass:players", 1, 2, 3) == 3 and r.smembers("location:overpass:players") == {"1", "2", "3"}
assert r.hset("worker:1:connections", mapping={"1": "a", "2": "b"}) == 2
assert r.set("lock:combat", "me", nx=True, ex=5) and not r.set("lock:combat", "you", nx=True, ex=5)
assert r.get("lock:combat") == "me" and r.delete("lock:combat") == 1
with r.lock("lock:trade", timeout=5):
    assert r.exists("lock:trade")
assert r.eval("return {KEYS[1], ARGV[1]}", 1, "k", "v") == ["k", "v"]
assert r.register_script("return tonumber(ARGV[1]) + 1")(args=[41]) == 42
assert r.xlen("stream") == 0 and r.xadd("stream", {"a": "1"}) and len(r.xread({"stream": "0"})) == 1
assert r.mget("lock:combat", session(5)) == [None, None]

# Optimistic locking.
r.set("balance", 10)
with r.pipeline() as pipe:
    pipe.watch("balance")
    amount = int(pipe.get("balance"))
    pipe.multi()
    pipe.set("balance", amount + 5)
    pipe.hget(session(5), "hp")
    assert pipe.execute() == [True, "95"]
with r.pipeline() as pipe:
    pipe.watch("balance")
    r.incr("balance")
    pipe.multi()
    pipe.set("balance", 0)
    assert "Watched variable changed" in error_of(pipe.execute)
assert r.get("balance") == "16"

# Blocking commands hold up nobody.
waiting = threading.Thread(target=lambda: results.append(redis.Redis(port=PORT, protocol=PROTOCOL).blpop("queue", 10)))
results = []
waiting.start()
until("it waits", lambda: r.info("clients")["blocked_clients"] == 1)
r.rpush("queue", "job")
waiting.join()
assert results[0][1] == b"job", results

# Pub/Sub.
channels = r.pubsub(ignore_subscribe_messages=True)
channels.subscribe("game:broadcast", "location:overpass")
channels.psubscribe("player:*")
until("subscribed", lambda: r.pubsub_numsub("game:broadcast")[0][1] == 1 and r.pubsub_numpat() == 1)
assert r.publish("game:broadcast", "hello") == 1 and r.publish("player:7", "hi") == 1 and r.publish("game:workers", "x") == 0
heard = []
until("both messages", lambda: (heard.append(channels.get_message(timeout=1)), len([m for m in heard if m]) == 2)[1])
assert [m["data"] for m in heard if m] == ["hello", "hi"]
channels.unsubscribe()
channels.punsubscribe()
channels.close()

# Another database.
other = redis.Redis(port=PORT, protocol=PROTOCOL, db=4, decode_responses=True)
if TOPOLOGY == "cluster":
    assert "cluster" in error_of(lambda: other.set("where", "four"))
else:
    other.set("where", "four")
    assert r.get("where") is None and other.get("where") == "four" and other.hget("item:apple:def", "name") == "Apple"
