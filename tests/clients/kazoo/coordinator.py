"""Queues, barriers and counters of kazoo, told a line at a time, and answering each with a line.

`put PATH PRIORITY VALUE`, `get PATH`, `consume PATH` and `release PATH` use one LockingQueue for each path; `put-many PATH COUNT PREFIX` and
`work PATH` put and work off many. `set PATH`, `remove PATH` and `wait PATH` are for a barrier, `enter PATH COUNT` and `leave PATH` for a double barrier,
`add PATH KIND AMOUNT TIMES` and `value PATH KIND` for a counter, whose KIND is kazoo or curator.
"""
import sys
import time

from kazoo.recipe.barrier import Barrier, DoubleBarrier
from kazoo.recipe.counter import Counter
from kazoo.recipe.queue import LockingQueue

from common import client

zk = client()
queues = {}
barriers = {}


def queue(path):
    if path not in queues:
        queues[path] = LockingQueue(zk, path)
    return queues[path]


def counter(path, kind):
    return Counter(zk, path, support_curator=kind == 'curator')


def answer(command, *words):
    if command == 'put':
        path, priority, value = words
        queue(path).put(value.encode(), int(priority))
        return 'put'
    if command == 'put-many':
        path, count, prefix = words
        for number in range(int(count)):
            queue(path).put(('%s%d' % (prefix, number)).encode())
        return 'put'
    if command == 'get':
        value = queue(words[0]).get(60)
        return 'nothing' if value is None else value.decode()
    if command == 'consume':
        return 'consumed' if queue(words[0]).consume() else 'not held'
    if command == 'release':
        return 'released' if queue(words[0]).release() else 'not held'
    if command == 'work':
        values = []
        while True:
            value = queue(words[0]).get(1)
            if value is None:
                return ' '.join(values)
            assert queue(words[0]).consume()
            values.append(value.decode())
    if command == 'work-time':
        # Microseconds for each of so many items, put and worked off one by one.
        path, count = words
        own = queue(path)
        start = time.monotonic()
        for number in range(int(count)):
            own.put(b'%d' % number)
        middle = time.monotonic()
        for number in range(int(count)):
            assert own.get(60) is not None
            assert own.consume()
        end = time.monotonic()
        return '%d %d' % ((middle - start) / int(count) * 1e6, (end - middle) / int(count) * 1e6)
    if command == 'set':
        Barrier(zk, words[0]).create()
        return 'set'
    if command == 'remove':
        return 'removed' if Barrier(zk, words[0]).remove() else 'was not set'
    if command == 'wait':
        return 'open' if Barrier(zk, words[0]).wait(60) else 'closed'
    if command == 'enter':
        barriers[words[0]] = DoubleBarrier(zk, words[0], int(words[1]), 'kazoo')
        barriers[words[0]].enter()
        return 'entered' if barriers[words[0]].participating else 'failed'
    if command == 'leave':
        barriers.pop(words[0]).leave()
        return 'left'
    if command == 'add':
        path, kind, amount, times = words
        own = counter(path, kind)
        for _ in range(int(times)):
            own += int(amount)
        return 'added'
    if command == 'value':
        return '%d' % counter(*words).value
    return 'what is %s?' % command


for line in sys.stdin:
    print(answer(*line.split()), flush=True)
