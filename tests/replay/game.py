"""A game server's data access as it is written for plain Redis: cache-aside by hand, Postgres behind. Nothing in here knows
of a sidecar."""

import json
import time

SESSION_TTL, INVENTORY_TTL = 1800, 600

SESSION = (
    "SELECT worker_id, websocket_connected, location_id, hp, max_hp, stamina, max_stamina, level, xp, last_movement_time, "
    "in_combat, last_heartbeat FROM sessions WHERE character_id = $1"
)
INVENTORY = (
    "SELECT inventory_id, item_id, quantity, equipped FROM inventory_items WHERE character_id = $1 ORDER BY position"
)


def text(value):
    """A column's value as Redis holds it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def fields(row):
    return {name: text(value) for name, value in row.items() if value is not None}


class Game:
    """What one worker does for its players."""

    def __init__(self, redis, database):
        self.redis, self.database = redis, database

    async def session(self, player):
        key = f"player:{player}:session"
        cached = await self.redis.hgetall(key)
        if cached:
            return cached
        row = await self.database.fetchrow(SESSION, player)
        if row is None:
            return {}
        pipe = self.redis.pipeline()
        pipe.hset(key, mapping=fields(row))
        pipe.expire(key, SESSION_TTL)
        await pipe.execute()
        return fields(row)

    async def inventory(self, player):
        key = f"player:{player}:inventory"
        cached = await self.redis.lrange(key, 0, -1)
        if cached:
            return [json.loads(item) for item in cached]
        rows = [dict(row) for row in await self.database.fetch(INVENTORY, player)]
        if rows:
            pipe = self.redis.pipeline()
            pipe.delete(key)
            pipe.rpush(key, *(json.dumps(row) for row in rows))
            pipe.expire(key, INVENTORY_TTL)
            await pipe.execute()
        return rows

    async def location(self, location):
        return await self.definition(f"location:{location}:cache", "SELECT * FROM locations WHERE location_id = $1", location)

    async def item(self, item):
        return await self.definition(f"item:{item}:def", "SELECT * FROM items WHERE item_id = $1", item)

    async def definition(self, key, sql, name):
        cached = await self.redis.hgetall(key)
        if not cached:
            row = await self.database.fetchrow(sql, name)
            cached = fields(row)
            await self.redis.hset(key, mapping=cached)
        return cached

    async def beat(self, player):
        """The websocket is alive; its session lives on."""
        key = f"player:{player}:session"
        pipe = self.redis.pipeline()
        pipe.hset(key, "last_heartbeat", int(time.time()))
        pipe.expire(key, SESSION_TTL)
        await pipe.execute()

    async def move(self, player, before, after):
        key = f"player:{player}:session"
        pipe = self.redis.pipeline()
        pipe.hset(key, mapping={"location_id": after, "last_movement_time": int(time.time())})
        pipe.expire(key, SESSION_TTL)
        pipe.srem(f"location:{before}:players", player)
        pipe.sadd(f"location:{after}:players", player)
        await pipe.execute()

    async def neighbours(self, location):
        return [int(player) for player in await self.redis.smembers(f"location:{location}:players")]

    async def use(self, player, inventory_id):
        """One of a stack is used: saved at once, and the cached list is thrown away."""
        sql = "UPDATE inventory_items SET quantity = quantity + 1 WHERE inventory_id = $1"
        await self.database.execute(sql, inventory_id)
        await self.redis.delete(f"player:{player}:inventory")
