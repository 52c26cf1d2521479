"""Workload 1 with redis-py's asyncio client, from several workers at once."""

import asyncio
import json

import redis.asyncio as redis

from game import PORT, PROTOCOL, inventory, session, sql


async def until(what, holds):
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0)


async def play(r, worker, player):
    async with r.pipeline() as pipe:
        pipe.hgetall(session(player))
        pipe.lrange(inventory(player), 0, -1)
        pipe.hgetall("location:overpass:cache")
        pipe.sadd(f"location:{{{worker}}}:players", player)
        pipe.hset(f"worker:{{{worker}}}:connections", str(player), "ws")
        state, items, location, _, _ = await pipe.execute()
    assert state["level"] == str(player % 20 + 1) and location["name"] == "Broken Overpass"
    assert len(items) == player * 8 % 21 and all(json.loads(item)["id"] for item in items)
    lock = f"lock:{player}"
    assert await r.set(lock, worker, nx=True, ex=5) and await r.get(lock) == str(worker)
    assert await r.delete(lock) == 1
    assert await r.hget("item:iron_sword:def", "name") == "Iron Sword"


async def main():
    workers = [redis.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True) for _ in range(4)]
    for worker, r in enumerate(workers):
        await r.delete(f"location:{{{worker}}}:players", f"worker:{{{worker}}}:connections")
    players = [(w, p) for p in range(40, 101) for w in [p % 4]]
    await asyncio.gather(*(play(workers[w], w, p) for w, p in players))
    assert sum([await r.scard(f"location:{{{w}}}:players") for w, r in enumerate(workers)]) == len(players)

    # One worker writes to the database; every worker sees it.
    for hp in (11, 12, 13):
        sql(f"UPDATE sessions SET hp = {hp} WHERE character_id = 90")

        async def all_see():
            return all([await r.hget(session(90), "hp") == str(hp) for r in workers])

        await until("every worker sees the new hp", all_see)

    # Messages among workers.
    heard = {w: [] for w in range(4)}

    async def listen(w, pubsub):
        async for message in pubsub.listen():
            if message["type"] == "message":
                heard[w].append(message["data"])
                if message["data"] == "end":
                    return

    listeners = []
    for w, r in enumerate(workers):
        pubsub = r.pubsub()
        await pubsub.subscribe("game:workers")
        listeners.append(asyncio.create_task(listen(w, pubsub)))

    async def all_subscribed():
        return (await workers[0].pubsub_numsub("game:workers"))[0][1] == 4

    await until("all listen", all_subscribed)
    for i in range(200):
        await workers[i % 4].publish("game:workers", str(i))
    await workers[0].publish("game:workers", "end")
    async with asyncio.timeout(20):
        await asyncio.gather(*listeners)
    for w in range(4):
        assert sorted(heard[w], key=str) == sorted([*(str(i) for i in range(200)), "end"], key=str), heard[w][-3:]
    for r in workers:
        await r.aclose()


asyncio.run(main())
