"""One-shot watches, DataWatch, ChildrenWatch, and what becomes of them when the server restarts."""
import threading

from kazoo.protocol.states import EventType

from common import client, equal, eventually, restart_server, stop

zk = client()
writer = client()


def one_shot(call, path, change):
    """The event that the change causes, and the proof that there is only one."""
    events = []
    call(path, watch=events.append)
    change()
    eventually(lambda: events, 'an event on ' + path)
    return events


zk.create('/w', b'')
created = one_shot(zk.exists, '/w/a', lambda: writer.create('/w/a', b''))
equal([(e.type, e.path) for e in created], [(EventType.CREATED, '/w/a')])
changed = one_shot(zk.get, '/w/a', lambda: writer.set('/w/a', b'1'))
equal([(e.type, e.path) for e in changed], [(EventType.CHANGED, '/w/a')])
children = one_shot(zk.get_children, '/w', lambda: writer.create('/w/b', b''))
equal([(e.type, e.path) for e in children], [(EventType.CHILD, '/w')])
deleted = one_shot(zk.exists, '/w/a', lambda: writer.delete('/w/a'))
equal([(e.type, e.path) for e in deleted], [(EventType.DELETED, '/w/a')])
writer.set('/w/b', b'again')
zk.sync('/w')
equal([len(events) for events in (created, changed, children, deleted)], [1, 1, 1, 1])

# DataWatch and ChildrenWatch see the last state, whatever lies between.
seen_data, seen_children = [], []
writer.create('/w/data', b'0')


@zk.DataWatch('/w/data')
def on_data(data, stat):
    seen_data.append(data)


@zk.ChildrenWatch('/w')
def on_children(names):
    seen_children.append(sorted(names))


for number in range(1, 51):
    writer.set('/w/data', str(number).encode())
    writer.create('/w/child-%d' % number, b'')
eventually(lambda: seen_data[-1] == b'50', 'the last data')
eventually(lambda: len(seen_children[-1]) == 52, 'all children')
numbers = [int(data) for data in seen_data]
equal(numbers, sorted(numbers))

# After a restart the session goes on: watches are armed again, ephemeral nodes are still there. Nothing under /w changes
# right before it: a ChildrenWatch that kazoo is just reading when the connection breaks is not read again afterwards.
session = zk.client_id
writer_session = writer.client_id
writer.create('/ephemeral', b'', ephemeral=True)
lost = threading.Event()
zk.add_listener(lambda state: lost.set() if state == 'LOST' else None)
before = []
zk.get('/w/data', watch=before.append)
restart_server()
eventually(lambda: zk.connected and writer.connected, 'both clients are back')
equal((zk.client_id, writer.client_id), (session, writer_session))
equal(zk.exists('/ephemeral').ephemeralOwner, writer_session[0])
writer.set('/w/data', b'after')
eventually(lambda: seen_data[-1] == b'after', 'the data watch after the restart')
eventually(lambda: before, 'the one-shot watch after the restart')
writer.create('/w/child-after', b'')
eventually(lambda: 'child-after' in seen_children[-1], 'the children watch after the restart')
writer.delete('/w/data')
eventually(lambda: seen_data[-1] is None, 'the data watch sees the deletion')
assert not lost.is_set(), 'the session was lost'
stop(zk, writer)
