"""The requests of the recorded audit log (tests/fixtures/operations/audit), in their order."""
from kazoo.exceptions import BadVersionError, KazooException, NoAuthError, NoNodeError, NodeExistsError
from kazoo.protocol.serialization import Create2
from kazoo.security import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id, Permissions

from common import client, equal, raises, stop


class CreateContainer(Create2):
    type = 19


bob = client()
bob.add_auth('digest', 'bob:secret')
only_bob = [ACL(Permissions.ALL, Id('auth', ''))]
bob.create('/a', b'', acl=only_bob)
bob.create('/a/e', b'', ephemeral=True)
equal(bob.create('/a/s-', b'', sequence=True), '/a/s-0000000001')
result = bob.handler.async_result()
bob._call(CreateContainer('/c', b'', OPEN_ACL_UNSAFE, 4), result)
equal(result.get()[0], '/c')
bob.set('/a', b'x')
bob.set_acls('/a', [ACL(Permissions.ALL, ANYONE_ID_UNSAFE)])
bob.create('/t', b'')
bob.delete('/t')
raises(NodeExistsError, bob.create, '/a', b'')
raises(NoNodeError, bob.delete, '/nope')
raises(BadVersionError, bob.set, '/a', b'y', version=77)
bob.create('/ro', b'', acl=READ_ACL_UNSAFE)

other = client()
raises(NoAuthError, other.set, '/ro', b'')
raises(KazooException, other.delete, '/a')

done = bob.transaction()
done.create('/m', b'')
done.set_data('/m', b'x')
done.delete('/m')
done.commit()
failed = bob.transaction()
failed.create('/n', b'')
failed.delete('/nope')
assert any(isinstance(one, NoNodeError) for one in failed.commit())

other.create('/e2', b'', ephemeral=True)
stop(other)
