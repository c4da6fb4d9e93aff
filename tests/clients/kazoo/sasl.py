"""A user who comes in by SASL, and those who do not: what each may do."""
from kazoo.client import KazooClient
from kazoo.exceptions import InvalidACLError, KazooException, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState
from kazoo.security import ACL, Id, Permissions

from common import ADDRESS, client, equal, eventually, raises, stop


def user(name, password):
    return {'mechanism': 'DIGEST-MD5', 'username': name, 'password': password}


bob = client(sasl_options=user('bob', 'bobsecret'))
stranger = client()
only_bob = [ACL(Permissions.ALL, Id('sasl', 'bob'))]
bob.create('/of-bob', b'his', acl=only_bob)
equal(bob.get('/of-bob')[0], b'his')
equal(bob.get_acls('/of-bob')[0], only_bob)
raises(NoAuthError, stranger.get, '/of-bob')

# What is created for whoever creates it is for the user.
bob.create('/by-auth', b'', acl=[ACL(Permissions.ALL, Id('auth', ''))])
equal(bob.get_acls('/by-auth')[0], only_bob)

# An id that no user of SASL can have is no entry of an ACL.
raises(InvalidACLError, stranger.create, '/wrong', b'', acl=[ACL(Permissions.ALL, Id('sasl', 'a@b@c'))])

# Another user has no part in that; the super user has.
jim = client(sasl_options=user('jim', 'jimsecret'))
raises(NoAuthError, jim.get, '/of-bob')
root = client(sasl_options=user('super', 'adminsecret'))
equal(root.get('/of-bob')[0], b'his')
boss = client(sasl_options=user('boss', 'bosssecret'))
equal(boss.get('/of-bob')[0], b'his')
boss.create('/digest', b'', acl=[ACL(Permissions.ALL, Id('digest', 'x:y'))])
equal(boss.get('/digest')[0], b'')
raises(NoAuthError, root.get, '/digest')

# Who loses the connection comes back as the same user.
bob._connection._socket.shutdown(2)
eventually(lambda: bob.state == KazooState.CONNECTED and bob.retry(bob.get, '/of-bob')[0] == b'his', 'bob is back')

# A wrong password, a user that is not there: such a client may see that it is connected, for a moment, but reads nothing.
# Where kazoo is refused before its start looks, that start waits for a connection until its time is over.
for options in [user('bob', 'wrong'), user('joe', 'bobsecret')]:
    zk = KazooClient(hosts=ADDRESS, timeout=5, sasl_options=options, connection_retry={'max_tries': 2, 'max_delay': 0.1})
    raises((KazooException, KazooTimeoutError), lambda: (zk.start(timeout=30), zk.get('/of-bob')))
    stop(zk)

equal(bob.exists('/of-bob').dataLength, 3)
stop(bob, stranger, jim, root, boss)
