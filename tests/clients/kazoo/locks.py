"""Lock, ReadLock, WriteLock, Semaphore and Election: never two inside, and everybody gets in."""
import threading

from kazoo.exceptions import LockTimeout

from common import client, equal, eventually, in_threads, raises, stop

clients = [client() for _ in range(4)]
inside, most, entered = [], [0], []


def work(zk, name):
    for _ in range(5):
        with zk.Lock('/lock', name):
            inside.append(name)
            most[0] = max(most[0], len(inside))
            zk.exists('/lock')
            inside.remove(name)
            entered.append(name)


in_threads(*[lambda zk=zk, n=n: work(zk, 'worker-%d' % n) for n, zk in enumerate(clients)])
equal((most[0], len(entered)), (1, 20))

# A lock of a session that ends is free.
holder = client()
lock = holder.Lock('/held', 'holder')
assert lock.acquire()
equal(clients[0].Lock('/held').contenders(), ['holder'])
raises(LockTimeout, clients[0].Lock('/held', 'other').acquire, timeout=0.2)
got = threading.Event()
waiting = clients[1].Lock('/held', 'next')
thread = threading.Thread(target=lambda: waiting.acquire() and got.set(), daemon=True)
thread.start()
eventually(lambda: len(clients[0].Lock('/held').contenders()) == 2, 'two contenders')
stop(holder)
assert got.wait(60), 'the lock did not pass on'
waiting.release()

# Readers share, a writer does not.
readers = [zk.ReadLock('/rw') for zk in clients[:2]]
assert all(reader.acquire() for reader in readers)
writer = clients[2].WriteLock('/rw')
assert not writer.acquire(blocking=False)
for reader in readers:
    reader.release()
assert writer.acquire()
assert not clients[0].ReadLock('/rw').acquire(blocking=False)
writer.release()

# A semaphore lets two in.
leases = [zk.Semaphore('/semaphore', max_leases=2) for zk in clients[:3]]
assert leases[0].acquire() and leases[1].acquire()
assert not leases[2].acquire(blocking=False)
leases[0].release()
assert leases[2].acquire()

# Everybody is elected in turn, one at a time.
leaders, reigning = [], []


def reign(name):
    reigning.append(name)
    equal(reigning, [name])
    leaders.append(name)
    reigning.remove(name)


def run(zk, name):
    election = zk.Election('/election', name)
    election.run(reign, name)


in_threads(*[lambda zk=zk, n=n: run(zk, 'candidate-%d' % n) for n, zk in enumerate(clients)])
equal(sorted(leaders), ['candidate-%d' % n for n in range(4)])
stop(*clients)
