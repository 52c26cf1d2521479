"""One worker process with its players: python worker.py NUMBER, the rest by environment. Prints what it checked, and what it
has measured."""

import asyncio
import collections
import json
import os
import random
import re
import sys
import time

import asyncpg
import redis.asyncio as redis

from game import Game

TICK = 5.0
"""Simulated seconds between two actions of a player."""
PANELS = 3
"""Inventory, equipment and encumbrance are drawn at once, each by a request of its own."""


CHANNEL = "game:broadcast"
"""Every move is told to the other workers."""


class Times(collections.Counter):
    """How many took so many tenths of a millisecond."""

    def add(self, seconds):
        self[round(seconds * 10_000)] += 1


class Answers:
    """The client as the game has it; notes by kind of key how often it was asked, and found something."""

    def __init__(self, client):
        self.client, self.kinds = client, collections.defaultdict(lambda: [0, 0])

    def __getattr__(self, name):
        return getattr(self.client, name)

    async def hgetall(self, key):
        return self.noted(key, await self.client.hgetall(key))

    async def lrange(self, key, first, last):
        return self.noted(key, await self.client.lrange(key, first, last))

    def noted(self, key, value):
        counts = self.kinds[re.sub(":[^:]*:", ":{}:", key)]
        counts[0] += 1
        counts[1] += bool(value)
        return value


def timed(read, times):
    """A read of the game's, whose time is noted: to the answer, whatever had to be asked for it."""
    async def reading(*arguments):
        begun = time.perf_counter()
        try:
            return await read(*arguments)
        finally:
            times.add(time.perf_counter() - begun)
    return reading


async def listen(client, number, times):
    """How long the other workers' messages were on their way."""
    async with client.pubsub() as subscription:
        await subscription.subscribe(CHANNEL)
        async for message in subscription.listen():
            if message["type"] == "message":
                sender, sent = json.loads(message["data"])
                if sender != number:
                    times.add(time.monotonic() - sent)


class Player:
    def __init__(self, number, world, game, tell):
        self.number, self.world, self.game, self.tell = number, world, game, tell
        self.dice = random.Random(number)
        self.used = 0

    async def live(self, ticks, second):
        """Acts once in a tick, at a moment of its own; the first when its screen comes back."""
        loop = asyncio.get_running_loop()
        start = loop.time() + self.dice.random() * second
        for tick in range(ticks):
            moment = start if tick == 0 else start + (tick + self.dice.random() * 0.5) * TICK * second
            await asyncio.sleep(max(0.0, moment - loop.time()))
            await self.act(tick)

    async def act(self, tick):
        game = self.game
        session = await game.session(self.number)
        location = session["location_id"]
        await asyncio.gather(game.location(location), self.look_around(location))
        if tick % 3 == 0:
            await self.open_inventory()
        if self.dice.random() < 0.3:
            await game.move(self.number, location, self.dice.choice(self.world))
            await self.tell()
        else:
            await game.beat(self.number)

    async def look_around(self, location):
        """The panel of who is here shows their sessions."""
        for other in (await self.game.neighbours(location))[:15]:
            await self.game.session(other)

    async def open_inventory(self):
        inventories = await asyncio.gather(*(self.game.inventory(self.number) for _ in range(PANELS)))
        for item in {row["item_id"] for row in inventories[0]}:
            await self.game.item(item)
        if self.dice.random() < 0.025:
            row = self.dice.choice(inventories[0])
            await self.game.use(self.number, row["inventory_id"])
            self.used += 1


async def nothing(_):
    pass


async def main():
    number, settings = int(sys.argv[1]), json.loads(os.environ["REPLAY"])
    pool = redis.BlockingConnectionPool(port=settings["redis"], decode_responses=True, max_connections=50, timeout=60)
    client = redis.Redis(connection_pool=pool)
    # What the pool itself would ask after every use is no query of the game's.
    database = await asyncpg.create_pool(settings["store"], min_size=1, max_size=10, reset=nothing)
    answers, operations, delivered = Answers(client), Times(), Times()
    game = Game(answers, database)
    for name in ("session", "inventory", "location", "item"):
        setattr(game, name, timed(getattr(game, name), operations))
    listening = asyncio.create_task(listen(client, number, delivered))

    async def tell():
        await client.publish(CHANNEL, json.dumps([number, time.monotonic()]))

    mine = range(number, settings["players"], settings["workers"])
    players = [Player(player, settings["locations"], game, tell) for player in mine]
    ticks = int(settings["minutes"] * 60 / TICK)
    await asyncio.gather(*(player.live(ticks, 1 / settings["speed"]) for player in players))
    listening.cancel()
    wrong, measured = 0, {"operations": dict(operations), "delivered": dict(delivered)}
    for player in players:
        # Whatever was cached on the way: what is shown now is what the database holds.
        shown = {row["inventory_id"]: row["quantity"] for row in await game.inventory(player.number)}
        rows = await database.fetch("SELECT inventory_id, quantity FROM inventory_items WHERE character_id = $1", player.number)
        wrong += shown != {row["inventory_id"]: row["quantity"] for row in rows}
    measured |= {"used": sum(player.used for player in players), "wrong": wrong, "actions": ticks * len(players)}
    print(json.dumps({**measured, "kinds": answers.kinds}))
    await database.close()
    await client.aclose()


asyncio.run(main())
