"""Keyspace notifications in redis-py, of owned keys and of the upstream's in one subscription, unchanged."""

import asyncio
import time

import redis
import redis.asyncio

from game import PORT, PROTOCOL, TOPOLOGY, session, sql

TOLD = "__keyspace@0__"
r = redis.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True)


def messages(pubsub, count):
    """So many events, as they come: the key and what has happened to it."""
    told, deadline = [], time.monotonic() + 10
    while len(told) < count:
        assert time.monotonic() < deadline, told
        message = pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
        if message:
            told.append((message["channel"].split(":", 1)[1], message["data"]))
    return told


# Behind several nodes each has a setting of its own.
single = TOPOLOGY == "single"
if single:
    before = r.config_get("notify-keyspace-events")["notify-keyspace-events"]
    r.config_set("notify-keyspace-events", "KEA")

with r.pubsub() as pubsub:
    pubsub.psubscribe(f"{TOLD}:player:63:*", f"{TOLD}:{{events}}*")
    while pubsub.get_message(timeout=1):
        pass
    key = session(63)
    r.hset(key, "hp", 77)
    assert messages(pubsub, 1) == [(key, "hset")]
    assert r.hget(key, "hp") == "77"
    r.expire(key, 1000)
    assert messages(pubsub, 1) == [(key, "expire")]
    sql("UPDATE sessions SET hp = 78 WHERE character_id = 63")
    assert messages(pubsub, 1) == [(key, "changed")]
    assert r.hget(key, "hp") == "78", "what is read on an event is new"
    if single:
        r.set("{events}:plain", "1")
        assert messages(pubsub, 1) == [("{events}:plain", "set")]
    with r.pipeline() as pipe:
        pipe.hset(key, "hp", 79).expire(key, 900).execute()
    assert messages(pubsub, 2) == [(key, "hset"), (key, "expire")]


async def concurrently():
    a = redis.asyncio.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True)
    async with a.pubsub() as pubsub:
        await pubsub.subscribe("__keyevent@0__:hset")
        told, ready = [], asyncio.Event()

        async def listen():
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    ready.set()
                if message["type"] == "message" and message["data"].startswith("player:6"):
                    told.append(message["data"])
                if len(told) == 3:
                    return

        listening = asyncio.create_task(listen())
        await asyncio.wait_for(ready.wait(), 10)
        for player in (64, 65, 66):
            await a.hset(session(player), "hp", 50)
        await asyncio.wait_for(listening, 10)
        assert told == [session(64), session(65), session(66)], told
    await a.aclose()


asyncio.run(concurrently())
if single:
    r.config_set("notify-keyspace-events", before)
