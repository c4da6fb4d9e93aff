"""A contender for locks and the like that does what it is told, a line at a time, and answers each with a line.

`lock PATH`, `try PATH` and `unlock PATH` use kazoo's lock beside nodes of Curator's names, `curator-lock PATH` the same with those names;
`join PATH NAME` joins a party, `members PATH` names all of it; `elect PATH NAME` stands for election and answers when it leads, until `resign PATH`; `candidates PATH` names them in order;
`line PATH COUNT` has so many wait for a lock that is held, `handover PATH` lets it go through all of them, and `failover PATH` ends the session of a leader
while another candidate waits: both answer with microseconds;
`rounds KIND PATH COUNT` takes the lock so many times, and is inside alone each time or says so.
"""
import sys
import threading
import time

from kazoo.exceptions import NodeExistsError
from kazoo.recipe.lock import Lock, ReadLock, WriteLock

from common import client

zk = client()
held = {}


class Beside(Lock):
    """kazoo's names; a contender with Curator's names counts as well."""

    def __init__(self, path):
        super().__init__(zk, path, 'kazoo', extra_lock_patterns=('-lock-',))


class CuratorNamed(Lock):
    """Curator's names, which Curator can put in order."""
    _NODE_NAME = '-lock-'
    _EXCLUDE_NAMES = ['-lock-', '__lock__']

    def __init__(self, path):
        super().__init__(zk, path, 'kazoo')


KINDS = {
    'lock': Beside,
    'curator-lock': CuratorNamed,
    'read': lambda path: ReadLock(zk, path),
    'write': lambda path: WriteLock(zk, path),
}


lines = {}


def stand_in_line(path, waiters):
    """So many wait behind a holder."""
    first = zk.Lock(path)
    first.acquire()

    def once():
        with zk.Lock(path):
            pass

    threads = [threading.Thread(target=once) for _ in range(waiters)]
    for thread in threads:
        thread.start()
    while len(zk.get_children(path)) <= waiters:
        time.sleep(0.01)
    # The last of them has still to look who is before it.
    time.sleep(0.5)
    lines[path] = first, threads


def hand_over(path):
    """Microseconds for each waiter of a line."""
    first, threads = lines.pop(path)
    start = time.monotonic()
    first.release()
    for thread in threads:
        thread.join()
    return (time.monotonic() - start) / len(threads) * 1e6


def fail_over(path):
    """Microseconds from the end of a leader's session until the next leads."""
    first, second = client(), client()
    leading, over, done = threading.Event(), threading.Event(), threading.Event()
    moments = []

    def lead():
        leading.set()
        over.wait()

    def stand():
        try:
            first.Election(path, 'first').run(lead)
        except Exception:
            # Its session is over, so that it can't delete its node.
            assert over.is_set()

    def follow():
        second.Election(path, 'second').run(lambda: moments.append(time.monotonic()))
        done.set()

    threading.Thread(target=stand, daemon=True).start()
    assert leading.wait(60)
    threading.Thread(target=follow, daemon=True).start()
    while len(zk.get_children(path)) < 2:
        time.sleep(0.01)
    time.sleep(0.2)
    start = time.monotonic()
    first.stop()
    assert done.wait(60)
    over.set()
    second.stop()
    return (moments[0] - start) * 1e6


def answer(command, *words):
    if command in KINDS:
        lock = held[words[0]] = KINDS[command](words[0])
        assert lock.acquire()
        return 'held %d' % zk.exists('%s/%s' % (words[0], lock.node)).czxid
    if command == 'try':
        lock = KINDS[words[0]](words[1])
        if not lock.acquire(blocking=False):
            return 'busy'
        held[words[1]] = lock
        return 'held %d' % zk.exists('%s/%s' % (words[1], lock.node)).czxid
    if command == 'unlock':
        held.pop(words[0]).release()
        return 'released'
    if command == 'elect':
        path, name = words
        leading, resigned, ended = threading.Event(), threading.Event(), threading.Event()

        def lead():
            leading.set()
            resigned.wait()

        def stand():
            zk.Election(path, name).run(lead)
            ended.set()

        held[path] = resigned, ended
        threading.Thread(target=stand, daemon=True).start()
        assert leading.wait(60)
        return 'leading'
    if command == 'resign':
        resigned, ended = held.pop(words[0])
        resigned.set()
        assert ended.wait(60)
        return 'resigned'
    if command == 'candidates':
        return ' '.join(zk.Election(words[0]).contenders())
    if command == 'join':
        zk.Party(words[0], words[1]).join()
        return 'joined'
    if command == 'members':
        return ' '.join(sorted(zk.Party(words[0])))
    if command == 'line':
        stand_in_line(words[0], int(words[1]))
        return 'waiting'
    if command == 'handover':
        return '%d' % hand_over(words[0])
    if command == 'failover':
        return '%d' % fail_over(words[0])
    if command == 'rounds':
        kind, path, count = words
        for _ in range(int(count)):
            with KINDS[kind](path):
                zk.create('/inside', ephemeral=True)
                zk.delete('/inside')
        return 'done'
    return 'what is %s?' % command


for line in sys.stdin:
    try:
        print(answer(*line.split()), flush=True)
    except NodeExistsError:
        print('two inside', flush=True)
