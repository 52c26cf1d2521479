"""One worker process with its players: python worker.py NUMBER, the rest by environment. Prints what it checked."""

import asyncio
import json
import os
import random
import sys

import asyncpg
import redis.asyncio as redis

from game import Game

TICK = 5.0
"""Simulated seconds between two actions of a player."""
PANELS = 3
"""Inventory, equipment and encumbrance are drawn at once, each by a request of its own."""


class Player:
    def __init__(self, number, world, game):
        self.number, self.world, self.game = number, world, game
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
    game = Game(client, database)
    mine = range(number, settings["players"], settings["workers"])
    players = [Player(player, settings["locations"], game) for player in mine]
    ticks = int(settings["minutes"] * 60 / TICK)
    await asyncio.gather(*(player.live(ticks, 1 / settings["speed"]) for player in players))
    wrong = 0
    for player in players:
        # Whatever was cached on the way: what is shown now is what the database holds.
        shown = {row["inventory_id"]: row["quantity"] for row in await game.inventory(player.number)}
        rows = await database.fetch("SELECT inventory_id, quantity FROM inventory_items WHERE character_id = $1", player.number)
        wrong += shown != {row["inventory_id"]: row["quantity"] for row in rows}
    print(json.dumps({"used": sum(player.used for player in players), "wrong": wrong, "actions": ticks * len(players)}))
    await database.close()
    await client.aclose()


asyncio.run(main())
