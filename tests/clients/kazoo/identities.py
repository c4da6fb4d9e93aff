"""A certificate is an identity: ACLs of the scheme x509, and the super user."""
import os

from kazoo import exceptions
from kazoo.client import KazooClient
from kazoo.security import ACL, Id, Permissions

from common import ADDRESS, client, equal, raises, stop, tls

SUBJECT, OTHER_KEY = os.environ['SUBJECT'], os.environ['OTHER_KEY']

zk = client()
mine = [ACL(Permissions.ALL, Id('x509', SUBJECT))]
zk.create('/mine', b'secret', acl=mine)
equal(zk.get('/mine')[0], b'secret')
equal([(a.id.scheme, a.id.id) for a in zk.get_acls('/mine')[0]], [('x509', SUBJECT)])
zk.create('/auth', b'', acl=[ACL(Permissions.ALL, Id('auth', ''))])
equal([(a.id.scheme, a.id.id) for a in zk.get_acls('/auth')[0]], [('x509', SUBJECT)])
raises(exceptions.InvalidACLError, zk.create, '/bad', b'', acl=[ACL(Permissions.ALL, Id('x509', 'nonsense'))])

other = KazooClient(hosts=ADDRESS, **{**tls(), 'certfile': OTHER_KEY, 'keyfile': OTHER_KEY})
other.start(timeout=60)
raises(exceptions.NoAuthError, other.get, '/mine')

boss_key = os.environ['SUPER_KEY']
boss = KazooClient(hosts=ADDRESS, **{**tls(), 'certfile': boss_key, 'keyfile': boss_key})
boss.start(timeout=60)
equal(boss.get('/mine')[0], b'secret')
boss.delete('/mine')
stop(zk, other, boss)
