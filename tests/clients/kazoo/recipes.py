"""Queue, LockingQueue, Barrier, DoubleBarrier, Counter, Party, SetPartitioner, Lease."""
import datetime
import threading
import time

from common import DEADLINE, client, equal, eventually, in_threads, stop

one, two = client(), client()

# Queues: each item once, by priority, then in order.
queue = one.Queue('/queue')
for item, priority in ((b'c', 200), (b'a', 100), (b'b', 100)):
    queue.put(item, priority)
equal(len(queue), 3)
equal([two.Queue('/queue').get() for _ in range(4)], [b'a', b'b', b'c', None])

locking = one.LockingQueue('/locking')
locking.put_all([b'%d' % n for n in range(20)])
taken = []


def consume(zk):
    mine = zk.LockingQueue('/locking')
    until = time.monotonic() + DEADLINE
    while len(taken) < 20:
        assert time.monotonic() < until, 'only %r came' % taken
        # The last item may go to the other one.
        item = mine.get(timeout=1)
        if item is not None:
            taken.append(int(item))
            assert mine.consume()


in_threads(lambda: consume(one), lambda: consume(two))
equal(sorted(taken), list(range(20)))
again = two.LockingQueue('/locking')
again.put(b'kept')
equal(again.get(timeout=DEADLINE), b'kept')
equal(again.release(), True)
equal(one.LockingQueue('/locking').get(timeout=DEADLINE), b'kept')

# Barriers.
barrier = one.Barrier('/barrier')
barrier.create()
passed = threading.Event()
thread = threading.Thread(target=lambda: two.Barrier('/barrier').wait(60) and passed.set(), daemon=True)
thread.start()
assert not passed.is_set()
barrier.remove()
assert passed.wait(60), 'the barrier did not open'
crossed = []


def cross(zk):
    double = zk.DoubleBarrier('/double', 2)
    double.enter()
    crossed.append('in')
    double.leave()
    crossed.append('out')


in_threads(lambda: cross(one), lambda: cross(two))
equal(sorted(crossed), ['in', 'in', 'out', 'out'])

# Counters: no addition is lost.
def count(zk):
    counter = zk.Counter('/counter')
    for _ in range(25):
        counter += 1


in_threads(lambda: count(one), lambda: count(two))
equal(one.Counter('/counter').value, 50)

# Groups.
parties = [one.Party('/party', 'one'), two.Party('/party', 'two')]
for party in parties:
    party.join()
equal(sorted(one.Party('/party')), ['one', 'two'])
parties[0].leave()
equal(list(two.Party('/party')), ['two'])
shallow = one.ShallowParty('/shallow', 'me')
shallow.join()
equal(list(two.ShallowParty('/shallow')), ['me'])

# A set divided among its members.
partitioners = [zk.SetPartitioner('/partition', set(range(6)), identifier=name, time_boundary=0.5)
                for zk, name in ((one, 'one'), (two, 'two'))]


def divided():
    for partitioner in partitioners:
        if partitioner.release:
            partitioner.release_set()
        assert not partitioner.failed, 'the partitioner failed'
    return all(partitioner.acquired and len(list(partitioner)) == 3 for partitioner in partitioners)


eventually(divided, 'the set is divided')
equal(sorted(list(partitioners[0]) + list(partitioners[1])), list(range(6)))
for partitioner in partitioners:
    partitioner.finish()

# A lease is held by one.
hour = datetime.timedelta(hours=1)
assert one.NonBlockingLease('/lease', hour, identifier='one')
assert not two.NonBlockingLease('/lease', hour, identifier='two')
stop(one, two)
