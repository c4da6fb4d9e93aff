"""Certificates are exchanged while clients are connected: they stay, and new ones see the new certificate."""
import os
import subprocess

from common import ADDRESS, client, equal, eventually, stop

KEY_STORE, NEXT = os.environ['KEY_STORE'], os.environ['NEXT']


def subject():
    """Of the certificate that a new connection sees."""
    shown = subprocess.run(
        ['openssl', 's_client', '-connect', ADDRESS, '-cert', os.environ['TLS_KEY'], '-key', os.environ['TLS_KEY']],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout
    lines = [line for line in shown.splitlines() if line.startswith('subject=')]
    return lines[0] if lines else ''


clients = [client() for _ in range(20)]
changes = []
for zk in clients:
    zk.add_listener(changes.append)
    zk.ensure_path('/reload')
assert 'server-1' in subject(), subject()

# A file that is renamed into the place of the old one.
os.replace(NEXT, KEY_STORE)
eventually(lambda: 'server-2' in subject(), 'the new certificate is shown')

# A file that is broken changes nothing.
with open(KEY_STORE + '.broken', 'w') as file:
    file.write('-----BEGIN CERTIFICATE-----\n')
os.replace(KEY_STORE + '.broken', KEY_STORE)
eventually(lambda: 'connections go on with those from before' in open(os.environ['SERVER_LOG']).read(), 'the broken file is told')
assert 'server-2' in subject(), subject()

# A link that leads elsewhere, as those to the secrets of Kubernetes do.
os.symlink(os.environ['THIRD'], KEY_STORE + '.link')
os.replace(KEY_STORE + '.link', KEY_STORE)
eventually(lambda: 'server-3' in subject(), 'the certificate behind the link is shown')

for number, zk in enumerate(clients):
    zk.set('/reload', str(number).encode())
equal(changes, [])
stop(*clients)
