"""What every script here starts with: a connected client, waiting with a deadline, a restart of the server."""
import os
import sys
import threading
import time

from kazoo.client import KazooClient

ADDRESS = sys.argv[1]
DEADLINE = 180


def client(**options):
    """A connected client; the retry policy rides out a restart of the server."""
    options.setdefault('timeout', 20)
    options.setdefault('connection_retry', {'max_tries': -1, 'max_delay': 1})
    options.setdefault('command_retry', {'max_tries': -1, 'max_delay': 1})
    zk = KazooClient(hosts=ADDRESS, **tls(), **options)
    zk.start(timeout=DEADLINE)
    return zk


def tls():
    """How to connect with TLS, where the environment says so."""
    if 'TLS_TRUST' not in os.environ:
        return {}
    key = os.environ.get('TLS_KEY')
    return {'use_ssl': True, 'ca': os.environ['TLS_TRUST'], 'certfile': key, 'keyfile': key}


def stop(*clients):
    for zk in clients:
        zk.stop()
        zk.close()


def eventually(condition, what):
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, 'did not happen: ' + what
        time.sleep(0.01)


def equal(found, expected):
    assert found == expected, 'expected %r, found %r' % (expected, found)


def raises(kind, call, *args, **kwargs):
    try:
        result = call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError('%r was not raised, but %r returned' % (kind, result))


def restart_server():
    """Killed and started on its data; returns when it serves again."""
    print('restart-server', flush=True)
    equal(sys.stdin.readline(), 'done\n')


def in_threads(*calls):
    """Runs the calls at the same time; the first error counts."""
    errors = []

    def guarded(call):
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), 'a thread did not end'
    if errors:
        raise errors[0]
