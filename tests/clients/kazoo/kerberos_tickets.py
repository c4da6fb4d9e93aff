"""A user with a ticket of Kerberos, and those without. The variables BOB and ANN name the files with their tickets."""
import os

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.states import KazooState
from kazoo.security import ACL, Id, Permissions

from common import ADDRESS, client, equal, eventually, raises, stop

bobs, anns = os.environ['BOB'], os.environ['ANN']
ticket = {'mechanism': 'GSSAPI', 'service': 'zookeeper'}

# A ticket is for a service at a host, which kazoo takes from the address; the server of this test has an address of its own.
authenticate = ConnectionHandler._authenticate_with_sasl
ConnectionHandler._authenticate_with_sasl = lambda self, host, timeout: authenticate(self, 'localhost', timeout)

os.environ['KRB5CCNAME'] = bobs
bob = client(sasl_options=ticket)
stranger = client()
only_bob = [ACL(Permissions.ALL, Id('sasl', 'bob@EXAMPLE.COM'))]
bob.create('/of-bob', b'his', acl=[ACL(Permissions.ALL, Id('auth', ''))])
equal(bob.get_acls('/of-bob')[0], only_bob)
equal(bob.get('/of-bob')[0], b'his')
raises(NoAuthError, stranger.get, '/of-bob')

# Who loses the connection comes back as the same user.
bob._connection._socket.shutdown(2)
eventually(lambda: bob.state == KazooState.CONNECTED and bob.retry(bob.get, '/of-bob')[0] == b'his', 'bob is back')

os.environ['KRB5CCNAME'] = anns
ann = client(sasl_options=ticket)
raises(NoAuthError, ann.get, '/of-bob')
ann.create('/of-ann', b'hers', acl=[ACL(Permissions.ALL, Id('sasl', 'ann@EXAMPLE.COM'))])
raises(NoAuthError, bob.get, '/of-ann')

# Without a ticket kazoo does not come in.
os.environ['KRB5CCNAME'] = bobs + '-that-are-not-there'
nobody = KazooClient(hosts=ADDRESS, timeout=5, sasl_options=ticket, connection_retry={'max_tries': 2, 'max_delay': 0.1})
raises((KazooException, KazooTimeoutError), lambda: (nobody.start(timeout=30), nobody.get('/of-bob')))
stop(nobody)

equal(bob.exists('/of-bob').dataLength, 3)
stop(bob, stranger, ann)
