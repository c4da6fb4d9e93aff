"""Reads, writes, versions, create modes, ACLs and transactions."""
from kazoo import exceptions
from kazoo.security import ACL, CREATOR_ALL_ACL, Id, make_acl, make_digest_acl

from common import client, equal, eventually, raises, stop, tls

zk = client()

# Nodes and versions.
equal(zk.create('/a', b'one'), '/a')
raises(exceptions.NodeExistsError, zk.create, '/a', b'')
raises(exceptions.NoNodeError, zk.create, '/nope/a', b'')
data, stat = zk.get('/a')
equal((data, stat.version, stat.dataLength, stat.numChildren), (b'one', 0, 3, 0))
equal(zk.set('/a', b'two', version=0).version, 1)
raises(exceptions.BadVersionError, zk.set, '/a', b'three', version=0)
raises(exceptions.BadVersionError, zk.delete, '/a', version=0)
equal(zk.create('/a/b/c', b'', makepath=True), '/a/b/c')
raises(exceptions.NotEmptyError, zk.delete, '/a')
equal(zk.get_children('/a'), ['b'])
equal(zk.get_children('/a', include_data=True)[1].cversion, 1)
equal(zk.exists('/nope'), None)
raises(exceptions.NoNodeError, zk.get, '/nope')
zk.delete('/a', recursive=True)
equal(zk.exists('/a'), None)
big = b'x' * 1_000_000
zk.create('/big', big)
equal(zk.get('/big')[0], big)
zk.ensure_path('/gr\u00fc\u00dfe/\u2603')
equal(zk.get_children('/gr\u00fc\u00dfe'), ['\u2603'])
path, stat = zk.create('/with-stat', b'abc', include_data=True)
equal((path, stat.dataLength, stat.version), ('/with-stat', 3, 0))

# Create modes.
zk.ensure_path('/modes')
equal(zk.create('/modes/s-', b'', sequence=True), '/modes/s-0000000000')
equal(zk.create('/modes/e', b'', ephemeral=True), '/modes/e')
equal(zk.create('/modes/es-', b'', ephemeral=True, sequence=True), '/modes/es-0000000002')
equal(zk.exists('/modes/e').ephemeralOwner, zk.client_id[0])
raises(exceptions.NoChildrenForEphemeralsError, zk.create, '/modes/e/child', b'')
other = client()
other.create('/modes/other', b'', ephemeral=True)
stop(other)
eventually(lambda: not zk.exists('/modes/other'), 'the ephemeral node of a closed session is gone')
equal(sorted(zk.get_children('/modes')), ['e', 'es-0000000002', 's-0000000000'])

# ACLs.
bob = client(auth_data=[('digest', 'bob:secret')])
bob.create('/bobs', b'his', acl=CREATOR_ALL_ACL)
raises(exceptions.NoAuthError, zk.get, '/bobs')
raises(exceptions.NoAuthError, zk.set, '/bobs', b'')
equal(bob.get('/bobs')[0], b'his')
equal(bob.get_acls('/bobs')[0], [make_digest_acl('bob', 'secret', all=True)])
readable = [make_digest_acl('bob', 'secret', all=True), make_acl('world', 'anyone', read=True)]
equal(bob.set_acls('/bobs', readable).aversion, 1)
equal(zk.get('/bobs')[0], b'his')
raises(exceptions.NoAuthError, zk.set_acls, '/bobs', readable)
raises(exceptions.InvalidACLError, zk.create, '/bad-acl', b'', acl=[ACL(31, Id('nope', 'x'))])
zk.add_auth('digest', 'bob:secret')
zk.set('/bobs', b'hers')
zk.create('/local-only', b'', acl=[make_acl('ip', '127.0.0.1', all=True)])
equal(bob.get('/local-only')[0], b'')
stop(bob)

# Transactions: all or nothing.
zk.ensure_path('/t')
transaction = zk.transaction()
transaction.create('/t/a', b'1')
transaction.create('/t/s-', b'2', sequence=True)
transaction.set_data('/t/a', b'new', version=0)
transaction.check('/t/a', 1)
transaction.create('/t/gone')
transaction.delete('/t/gone')
results = transaction.commit()
equal(results[0:2], ['/t/a', '/t/s-0000000001'])
equal((results[2].version, results[3:]), (1, [True, '/t/gone', True]))
transaction = zk.transaction()
transaction.create('/t/never', b'')
transaction.check('/t/a', 99)
transaction.delete('/t/a')
results = transaction.commit()
equal([type(result).__name__ for result in results], ['RolledBackError', 'BadVersionError', 'RuntimeInconsistency'])
equal(sorted(zk.get_children('/t')), ['a', 's-0000000001'])

# Many requests in flight keep their order.
zk.create('/order', b'')
waiting = [zk.set_async('/order', str(n).encode()) for n in range(500)]
equal([w.get(60).version for w in waiting], list(range(1, 501)))
pairs = [(zk.set_async('/order', str(n).encode()), zk.get_async('/order')) for n in range(200)]
equal([int(read.get(60)[0]) for _, read in pairs], list(range(200)))

equal(zk.sync('/order'), '/order')
# kazoo cannot send a word over TLS: it takes the port for the name of the host.
assert tls() or zk.server_version() >= (3, 5), zk.server_version()
stop(zk)
