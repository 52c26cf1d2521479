"""The ordinary jobs of redis-py, blocking and asyncio: pipelines, locks, Pub/Sub, streams, scripts, blocking reads."""

import asyncio
import os
import sys
import threading

if os.environ.get("HIREDIS") == "no":
    # As if it were not installed.
    sys.modules["hiredis"] = None

import redis
import redis.asyncio

from game import PORT, PROTOCOL, TOPOLOGY, error_of, until


def client(**options):
    return redis.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True, **options)


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        for i in range(300):
            pipe.set(f"{job}:{i}", i).get(f"{job}:{i}")
        answers = pipe.execute()
    assert answers[1::2] == [str(i) for i in range(300)]
    with r.pipeline() as pipe:
        pipe.incr("{job}:counter").hget("item:apple:def", "name").lpush("{job}:list", "a", "b").llen("player:6:inventory")
        assert pipe.execute()[1] == "Apple"
    with r.pipeline() as pipe:
        pipe.watch("{job}:counter")
        value = int(pipe.get("{job}:counter"))
        pipe.multi()
        pipe.set("{job}:counter", value + 1)
        assert pipe.execute() == [True]
    with r.pipeline() as pipe:
        pipe.watch("{job}:counter")
        r.set("{job}:counter", 100)
        pipe.multi()
        pipe.incr("{job}:counter")
        try:
            pipe.execute()
            raise AssertionError("the watched key changed")
        except redis.WatchError:
            pass

    def add(pipe):
        value = int(pipe.get("{job}:counter"))
        pipe.multi()
        pipe.set("{job}:counter", value + 1)

    assert r.transaction(add, "{job}:counter") == [True] and r.get("{job}:counter") == "101"


def locks(r):
    lock = r.lock("{job}:lock", timeout=5, blocking_timeout=0.1)
    assert lock.acquire() and lock.locked()
    assert not r.lock("{job}:lock", timeout=5, blocking_timeout=0.05).acquire()
    lock.extend(5)
    lock.release()
    assert not lock.locked()


def publishing(r):
    pubsub = r.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("{job}:news")
    pubsub.psubscribe("{job}:n*")
    until("subscribed", lambda: r.publish("{job}:other", "") == 0 and r.pubsub_numsub("{job}:news")[0][1] == 1 and r.pubsub_numpat() == 1)
    assert r.publish("{job}:news", "hello") == 2
    kinds = set()
    until("both came", lambda: kinds.update(m["type"] for m in [pubsub.get_message(timeout=1)] if m) or len(kinds) == 2)
    assert kinds == {"message", "pmessage"}
    pubsub.ping()
    pubsub.unsubscribe()
    pubsub.punsubscribe()
    pubsub.close()


def streams(r):
    r.delete("{job}:stream")
    first = r.xadd("{job}:stream", {"n": 1})
    r.xgroup_create("{job}:stream", "workers", 0)
    taken = r.xreadgroup("workers", "ann", {"{job}:stream": ">"}, count=10)
    entries = taken[0][1] if isinstance(taken, list) else taken["{job}:stream"][0]
    assert entries[0][0] == first and r.xack("{job}:stream", "workers", first) == 1
    answers = []
    reader = threading.Thread(target=lambda: answers.append(client().xread({"{job}:stream": "$"}, block=5000)))
    reader.start()
    until("it waits", lambda: r.info("clients")["blocked_clients"] == 1)
    r.xadd("{job}:stream", {"n": 2})
    reader.join(5)
    assert answers and answers[0]


def scripts_and_waits(r):
    script = r.register_script("return {KEYS[1], ARGV[1], redis.call('incr', KEYS[1])}")
    r.delete("{job}:script")
    assert script(keys=["{job}:script"], args=["x"]) == ["{job}:script", "x", 1]
    r.script_flush()
    assert script(keys=["{job}:script"], args=["x"])[2] == 2
    assert r.blpop("{job}:nothing", timeout=0.1) is None
    r.rpush("{job}:queue", "a")
    assert tuple(r.blpop(["{job}:nothing", "{job}:queue"], timeout=1)) == ("{job}:queue", "a")
    assert list(r.scan_iter("{job}:list*")) == ["{job}:list"]
    assert r.client_id() > 0 and r.client_list() and r.client_info()["db"] == 0
    other = client(db=3)
    if TOPOLOGY == "cluster":
        assert "cluster" in error_of(lambda: other.set("job:there", 1))
        return
    other.set("job:there", 1)
    assert r.get("job:there") is None and other.get("job:there") == "1"


async def asynchronously():
    r = redis.asyncio.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True)
    await asyncio.gather(*(r.set(f"{job}:{i}", i) for i in range(100)))
    async with r.pipeline(transaction=True) as pipe:
        answers = await pipe.incr("{job}:async").hget("item:apple:def", "name").execute()
    assert answers[1] == "Apple"
    async with r.lock("{job}:alock", timeout=5):
        assert await r.exists("{job}:alock") == 1
    pubsub = r.pubsub()
    await pubsub.subscribe("{job}:anews")
    assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
    assert await r.publish("{job}:anews", "hi") == 1
    assert (await pubsub.get_message(timeout=5))["data"] == "hi"
    waiting = asyncio.create_task(redis.asyncio.Redis(port=PORT, protocol=PROTOCOL).blpop("{job}:aqueue", timeout=10))
    while (await r.info("clients"))["blocked_clients"] == 0:
        await asyncio.sleep(0)
    await r.rpush("{job}:aqueue", "x")
    assert (await waiting)[1] == b"x"
    # A wait that is cancelled leaves nothing behind.
    cancelled = asyncio.create_task(redis.asyncio.Redis(port=PORT, protocol=PROTOCOL).blpop("{job}:aqueue", timeout=0))
    while (await r.info("clients"))["blocked_clients"] == 0:
        await asyncio.sleep(0)
    cancelled.cancel()
    try:
        await cancelled
    except asyncio.CancelledError:
        pass
    while (await r.info("clients"))["blocked_clients"] != 0:
        await asyncio.sleep(0)
    await pubsub.aclose()
    await r.aclose()


r = client()
expected = "_Hiredis" if os.environ.get("HIREDIS") != "no" else f"_RESP{PROTOCOL}"
r.ping()
parser = r.connection_pool.get_connection()._parser
assert type(parser).__name__.startswith(expected), parser
for job in (pipelines, locks, publishing, streams, scripts_and_waits):
    job(r)
asyncio.run(asynchronously())
