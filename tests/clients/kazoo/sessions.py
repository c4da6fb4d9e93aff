"""A session that ends takes its ephemeral nodes along, and who asks learns of it."""
import os
import subprocess
import sys
import time

from kazoo.client import KazooState
from kazoo.protocol.states import EventType

from common import client, equal, eventually, stop

if sys.argv[2:] == ['create-and-die']:
    client(timeout=4).create('/mortal', b'', ephemeral=True)
    os._exit(0)

watcher = client()
zk = client()
zk.create('/mortal', b'', ephemeral=True)
states = []
zk.add_listener(states.append)
gone = []
watcher.exists('/mortal', watch=gone.append)
session, password = zk.client_id

# A second connection with the same session takes it over; when that one closes the session, the first one learns of it.
thief = client(client_id=(session, password))
equal(thief.client_id[0], session)
stop(thief)
eventually(lambda: KazooState.LOST in states, 'the first client learns that its session is over')
eventually(lambda: gone, 'the watcher hears of the ephemeral node')
eventually(lambda: zk.connected and zk.client_id and zk.client_id[0] != session, 'a new session')
equal(watcher.exists('/mortal'), None)

# A process that dies leaves its session behind, until that expires.
gone = []
watcher.exists('/mortal', watch=gone.append)
begin = time.monotonic()
subprocess.run([sys.executable, __file__, sys.argv[1], 'create-and-die'], check=True)
eventually(lambda: gone and gone[0].type == EventType.CREATED, 'the node of the process that died')
gone = []
if watcher.exists('/mortal', watch=gone.append):
    eventually(lambda: gone and gone[0].type == EventType.DELETED, 'the expiry of the dead session')
assert time.monotonic() - begin > 4, 'the session expired too early'
equal(watcher.exists('/mortal'), None)
stop(watcher, zk)
