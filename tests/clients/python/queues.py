"""RQ runs jobs with a worker, and walrus keeps its containers."""

import logging

import redis
import rq
import walrus

from game import PORT, PROTOCOL, TOPOLOGY, error_of

logging.disable(logging.CRITICAL)
connection = redis.Redis(port=PORT, protocol=PROTOCOL)
queue = rq.Queue("hearthside", connection=connection)


def work():
    jobs = [queue.enqueue(sum, [i, i]) for i in range(20)]
    worker = rq.SimpleWorker([queue], connection=connection, name="worker")
    assert worker.work(burst=True)
    assert [job.return_value(refresh=True) for job in jobs] == [2 * i for i in range(20)]
    failing = queue.enqueue("builtins.int", "x")
    rq.SimpleWorker([queue], connection=connection, name="another").work(burst=True)
    assert failing.get_status(refresh=True) == rq.job.JobStatus.FAILED


if TOPOLOGY == "cluster":
    # The transactions of RQ name keys of several slots. The library takes CROSSSLOT away from the text.
    assert "are in another slot of the upstream's cluster" in error_of(work)
else:
    work()

db = walrus.Database(port=PORT, protocol=PROTOCOL)
db.delete("walrus:hash", "walrus:list", "walrus:zset")
bag = db.Hash("walrus:hash")
bag.update(a=1, b=2)
assert bag["a"] == b"1" and len(bag) == 2
items = db.List("walrus:list")
items.extend(["x", "y"])
assert list(items) == [b"x", b"y"]
ranks = db.ZSet("walrus:zset")
ranks.add({"ann": 2, "bob": 1})
assert ranks.score("ann") == 2.0 and ranks.rank("bob") == 0
assert db.rate_limit("walrus:limit", limit=2, per=60).limit("me") is False
cache = db.cache()
cache.set("key", "value", 10)
assert cache.get("key") == "value"


def lock():
    with db.lock(f"walrus:lock:{PROTOCOL}", ttl=5000):
        pass


if TOPOLOGY == "cluster":
    # The script that gives a lock back, too.
    assert "are in several slots of the upstream's cluster" in error_of(lock)
else:
    lock()
