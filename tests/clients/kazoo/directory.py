"""Takes ids, registers instances and looks for them as it is told, a line at a time, and answers each with a line.

kazoo has no recipe for services: the nodes are written and read as Apache Curator does.
"""
import json
import sys
import time

from common import client

zk = client()


def answer(command, *words):
    if command == 'ids':
        counter = zk.Counter(words[0])
        given = []
        for _ in range(int(words[1])):
            counter += 1
            given.append(str(counter.post_value))
        return ' '.join(given)
    if command == 'register':
        name, identity, port, kind = words
        instance = {
            'name': name, 'id': identity, 'address': '10.0.0.2', 'port': int(port), 'sslPort': None, 'payload': 'kazoo',
            'registrationTimeUTC': int(time.time() * 1000), 'serviceType': kind, 'uriSpec': None,
        }
        zk.create('/services/%s/%s' % (name, identity), json.dumps(instance).encode(), ephemeral=kind == 'DYNAMIC', makepath=True)
        return 'registered'
    if command == 'unregister':
        zk.delete('/services/%s/%s' % words)
        return 'unregistered'
    if command == 'discover':
        found = []
        for child in zk.get_children('/services/' + words[0]):
            instance = json.loads(zk.get('/services/%s/%s' % (words[0], child))[0])
            found.append('|'.join(str(instance[field]) for field in ('id', 'address', 'port', 'payload', 'serviceType')))
        return ' '.join(sorted(found))
    return 'what is %s?' % command


for line in sys.stdin:
    print(answer(*line.split()), flush=True)
