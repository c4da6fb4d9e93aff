#!/usr/bin/env python3
"""Makes the seeds of the corpus from the recorded material in tests/fixtures.

Seeds have names that begin with "seed-"; only these are replaced. Inputs that once failed stay.
"""

import collections
import hashlib
import json
import pathlib
import ssl
import struct
import tarfile

HERE = pathlib.Path(__file__).parent
CORPUS = HERE / "corpus"
FIXTURES = HERE / "../../tests/fixtures"
CLIENTS = 4
# What happens after the bytes of a step, see conversation.rs.
NOTHING, SYNC, HANG_UP, PASS_SHORT, PASS_LONG = 0, 1, 3, 5, 6

CONFIGS = {
    "standalone": b"tickTime=2000\ndataDir=/var/lib/zookeeper\nclientPort=2181\n",
    "comments": b"# a comment\n! another\n\ntickTime : 2000\ndataDir /data\\\n  /zk\nclientPort=\\u0032181\n",
    "everything": b"""dataDir=/data
dataLogDir=/logs
clientPort=2181
clientPortAddress=127.0.0.1
maxClientCnxns=60
tickTime=2000
minSessionTimeout=-1
maxSessionTimeout=40000
snapCount=1000
preAllocSize=64
autopurge.snapRetainCount=3
autopurge.purgeInterval=1
4lw.commands.whitelist=*
globalOutstandingLimit=1000
jute.maxbuffer=0x100000
extendedTypesEnabled=true
enforceQuota=true
snapshot.compression.method=gz
digest.enabled=true
skipACL=no
DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=
enforce.auth.enabled=true
enforce.auth.schemes=digest
standaloneEnabled=true
reconfigEnabled=true
admin.enableServer=false
noSuchKey=1
""",
    "ensemble": b"""dataDir=/data
initLimit=10
syncLimit=5
server.1=localhost:2888:3888:participant;127.0.0.1:2181
server.2=[::1]:2889:3889:observer;2182
server.3=a:1:2|b:3:4;2183
group.1=1:2
group.2=3
weight.1=1
weight.2=2
weight.3=0
\0server.1=localhost:2888:3888;2181\nversion=100000000\n\0001\n""",
    "dynamic": b"dataDir=/data\ndynamicConfigFile=/etc/zoo.cfg.dynamic\n\0server.1=h:2888:3888;2181\nversion=1f\n\x001",
    "flags": b"dataDir=/d\nclientPort=2181\n\0\0\0-Xmx1g -Djute.maxbuffer=\"4194304\" '-Da=b c'\0-Dzookeeper.snapCount=5",
    "positional": b"\0\0\0\0\x002181\0/data\x002000\x0060",
    "tls": b"dataDir=/data\nsecureClientPort=2281\nsslQuorum=true\nssl.keyStore.location=/k\nclientPort=2181\n",
}


CHALLENGE = b'realm="zk-sasl-md5",nonce="a nonce that was never used",charset=utf-8,algorithm=md5-sess'
ANSWER = b"""charset=utf-8,username="bob",realm="zk-sasl-md5",nonce="a nonce that was never used",nc=00000001,\
cnonce="abc",digest-uri="zookeeper/zk-sasl-md5",maxbuf=65536,response=524f38eed78807606605c7ff85219f87,\
qop=auth,authzid="bob\""""
# The first byte says what the rest is, see sasl.rs.
SASL = {
    "jaas": b"""\0// users
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_super="a\\"b\\101" /* why */ user_bob="${user.home}";
};
Client { com.sun.security.auth.module.Krb5LoginModule OPTIONAL useKeyTab=true keyTab="/k${/}x"; };
""",
    "jaas-short": b"\0A{};B{a.B required;c.D optional x=y;};",
    "jaas-wrong": b"\0Server { a.B required user_bob=secret }",
    "users": b"\1# users\nbob:fff08f480333e7694a6455b4a1d5b656\r\n\njoe:FFF08F480333E7694A6455B4A1D5B656",
    "server": b"\2\n" + ANSWER,
    "server-again": b"\2\n" + ANSWER + b"\n" + ANSWER,
    "client": b"\3" + CHALLENGE + b"\nrspauth=9ad321d47f4c6b76637cc81822a8712d",
    "client-odd": b"\3nonce=x , algorithm = md5-sess,,\nrspauth=",
}

def put(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(content)


def client_hello(setup):
    """What a client of Python's sends first. It is another one each time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    setup(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="zoo1.example.com").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def tls_12(context):
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def tls_13(context):
    context.minimum_version = ssl.TLSVersion.TLSv1_3


def one_suite(context):
    tls_12(context)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")


def exchanges():
    """The steps of each recorded scenario."""
    for path in sorted((FIXTURES / "client").glob("*.jsonl")):
        scenarios = collections.OrderedDict()
        for line in path.read_text().splitlines():
            step = json.loads(line)
            scenarios.setdefault(step["name"].rsplit("/", 1)[0], []).append(step)
        yield from scenarios.items()


def adjusted(step, steps, index_of):
    """The bytes of a request with what depends on the recording made to depend on the replay."""
    frame = bytearray.fromhex(step["hex"])
    for volatile in step.get("volatile", []):
        start, end = volatile["start"], volatile["end"]
        frame[start:end] = bytes(end - start)
        if volatile["kind"] == "sid" and "from" in volatile:
            source = next((s for s in steps if s["name"] == volatile["from"]["line"]), step)
            frame[start:end] = (index_of.get(source["conn"], 0) % CLIENTS + 1).to_bytes(end - start, "big")
    return bytes(frame)


def conversation(steps):
    flags = {"core": 0, "ext": 3}.get(steps[0].get("profile"), 3)
    output = bytearray([flags])
    index_of = {}

    def act(index, what, frame=b""):
        for start in range(0, max(len(frame), 1), 0xFFFF):
            part = frame[start : start + 0xFFFF]
            step = what if start + 0xFFFF >= len(frame) else NOTHING
            output.extend([index % CLIENTS | step << 2])
            output.extend(struct.pack(">H", len(part)))
            output.extend(part)

    for step in steps:
        event = step["decoded"].get("event") if isinstance(step.get("decoded"), dict) else None
        if step["conn"] != "-" and step["conn"] not in index_of:
            index_of[step["conn"]] = len(index_of)
            act(index_of[step["conn"]], HANG_UP)
        index = index_of.get(step["conn"], 0)
        if event == "drop":
            act(index, HANG_UP)
        elif event == "wait":
            act(index, PASS_LONG if step["decoded"].get("ms", 0) > 5000 else PASS_SHORT)
        elif step["dir"] == "c2s" and step["hex"]:
            act(index, SYNC, adjusted(step, steps, index_of))
    return bytes(output)


def files():
    """The distinct files of the recorded data directories."""
    seen = set()
    for path in sorted((FIXTURES / "datadir").glob("*.tar.gz")):
        with tarfile.open(path) as tar:
            for member in tar:
                # A log as large as its preallocation is known by its beginning.
                if not member.isfile():
                    continue
                content = tar.extractfile(member).read(1 << 20)
                name = pathlib.Path(member.name).name
                if name.startswith("log."):
                    content = content.rstrip(b"\0") + bytes(64)
                digest = hashlib.sha256(name.split(".")[0].encode() + content).digest()
                if digest not in seen:
                    seen.add(digest)
                    yield path.name.removesuffix(".tar.gz"), name, content


def log_bodies(content):
    offset = 16
    while offset + 12 <= len(content):
        length = struct.unpack(">i", content[offset + 8 : offset + 12])[0]
        if not 0 < length <= len(content) - offset - 12:
            return
        yield content[offset + 12 : offset + 12 + length]
        offset += 13 + length


def main():
    for old in CORPUS.glob("*/seed-*"):
        old.unlink()

    by_op = collections.Counter()
    seen = set()
    for name, steps in exchanges():
        script = conversation(steps)
        if len(script) < 24_000:
            put("conversation", name.replace("/", "-"), script)
        for step in steps:
            frame = bytes.fromhex(step["hex"])
            if step["dir"] == "c2s" and 4 < len(frame) < 2000:
                op = "connect" if step["decoded"].get("record") else struct.unpack(">i", frame[8:12].rjust(4, b"\0"))[0]
                if (op, len(frame)) not in seen and by_op["frame", op] < 6:
                    seen.add((op, len(frame)))
                    by_op["frame", op] += 1
                    put("frames", f"{op}-{by_op['frame', op]}", frame)
            elif step["dir"] == "s2c" and 20 < len(frame) < 500 and not step.get("unframed"):
                op = step["decoded"].get("op", "event")
                if by_op["answer", op] < 2:
                    by_op["answer", op] += 1
                    put("records", f"answer-{op}-{by_op['answer', op]}", frame[20:])
                    put("frames", f"answer-{op}-{by_op['answer', op]}", frame)

    for directory, name, content in files():
        if name.startswith("log.") and len(content) < 24_000:
            put("log", f"{directory}-{name}", content)
            replay = b""
            for body in log_bodies(content):
                op = struct.unpack(">i", body[28:32])[0] if len(body) >= 32 else 0
                if by_op["txn", op] < 5:
                    by_op["txn", op] += 1
                    put("records", f"txn-{op}-{by_op['txn', op]}", body)
                replay += struct.pack(">H", len(body)) + body
            if len(replay) > 200 and by_op["replay", len(replay)] == 0:
                by_op["replay", len(replay)] += 1
                put("replay", f"{directory}-{name}", replay)
        elif name.startswith("snapshot.") and len(content) < 24_000:
            put("snapshot", f"{directory}-{name}", content)
        elif name.endswith(".cfg"):
            put("config", f"{directory}-{name}", content)
    for name, content in CONFIGS.items():
        put("config", name, content)
    for name, content in SASL.items():
        put("sasl", name, content)
    hello = client_hello(tls_13)
    for name, content in {
        "tls-13": hello,
        "tls-12": client_hello(tls_12),
        "one-suite": client_hello(one_suite),
        "half": hello[: len(hello) // 2],
        "alert-behind": hello + b"\x15\x03\x03\x00\x02\x02\x2a",
        "twice": hello + hello,
        "empty-record": b"\x16\x03\x01\x00\x00",
        "longest-record": b"\x16\x03\x01\x40\x00" + bytes(0x4000),
        "learner": b"\0\0\0\x0b\0\0\0\0\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0\x03",
        "election": b"\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x03\0\0\0\x0f127.0.0.3:32388",
        "http": b"GET / HTTP/1.1\r\nHost: zoo1\r\n\r\n",
    }.items():
        put("first_bytes", name, content)
    for path in sorted((FIXTURES / "tls").iterdir()):
        if path.suffix in (".pem", ".p12", ".jks", ".jceks") and path.stat().st_size < 3000:
            put("stores", path.name, (b"\0" if path.suffix == ".pem" else b"\1") + path.read_bytes())


if __name__ == "__main__":
    main()
