"""Servers to be measured: Rookeeper and Apache ZooKeeper, alone or as ensembles, and the load that is put on them.

ROOKEEPER_BIN names the program where it is not the release build of this repository; ROOKEEPER_APACHE_CLASSPATH names an Apache ZooKeeper
where it is neither the newer one that tests/provision puts into .apache nor Debian's.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARM_UP = 1


def rookeeper_binary():
    if "ROOKEEPER_BIN" in os.environ:
        return os.environ["ROOKEEPER_BIN"]
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    binary = pathlib.Path(target) / "release" / "rookeeper"
    if not binary.exists():
        sys.exit(f"{binary} is missing: cargo build --release")
    return str(binary)


def apache_classpath():
    if "ROOKEEPER_APACHE_CLASSPATH" in os.environ:
        return os.environ["ROOKEEPER_APACHE_CLASSPATH"]
    newer = sorted((ROOT / ".apache").glob("*.jar"))
    # What the newer one needs besides is in Debian's package.
    return ":".join(map(str, [*newer, "/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-api.jar"]))


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Ensemble:
    """So many servers of a kind, on ports of their own."""

    def __init__(self, kind, members=1, binary=None, **settings):
        self.kind = kind
        self.binary = binary
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="rookeeper-bench-"))
        free = free_ports(3 * members)
        ports = [free[at:at + 3] for at in range(0, len(free), 3)]
        self.ports = [port for port, _, _ in ports]
        self.processes = []
        for number, port in enumerate(self.ports, 1):
            home = self.directory / str(number)
            (home / "data").mkdir(parents=True)
            lines = {"tickTime": 2000, "initLimit": 10, "syncLimit": 5, "clientPort": port, "clientPortAddress": "127.0.0.1",
                     "dataDir": home / "data", "maxClientCnxns": 0, "4lw.commands.whitelist": "*", "admin.enableServer": "false", **settings}
            if members > 1:
                (home / "data" / "myid").write_text(f"{number}\n")
                for other, (_, quorum, election) in enumerate(ports, 1):
                    lines[f"server.{other}"] = f"127.0.0.1:{quorum}:{election}"
            (home / "zoo.cfg").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
            self.processes.append(self.start(home))
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise

    def start(self, home):
        if self.kind == "rookeeper":
            command = [self.binary or rookeeper_binary(), "server", str(home / "zoo.cfg")]
        else:
            command = ["java", "-Xmx1g", "-cp", apache_classpath(), "-Djava.awt.headless=true", "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                       str(home / "zoo.cfg")]
        with open(home / "log", "w") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def mode(self, port):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"srvr")
            answer = connection.makefile("rb").read().decode(errors="replace")
            return next((line.split()[1] for line in answer.splitlines() if line.startswith("Mode:")), None)
        return None

    def wait(self):
        until = time.monotonic() + 90
        while not all(self.mode(port) for port in self.ports):
            if time.monotonic() > until or any(process.poll() is not None for process in self.processes):
                logs = (home.read_text()[-2000:] for home in self.directory.glob("*/log"))
                sys.exit(f"{self.kind} did not start:\n" + "\n".join(logs))
            time.sleep(0.05)

    def leader(self):
        modes = {port: self.mode(port) for port in self.ports}
        return next(port for port, mode in modes.items() if mode in ("leader", "standalone"))

    def resident_mib(self):
        process = self.processes[self.ports.index(self.leader())]
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024

    def cpu_seconds(self):
        ticks = 0
        for process in self.processes:
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(60)
        shutil.rmtree(self.directory, ignore_errors=True)


def load(target, options, operation, connections, pipeline, *more):
    """Puts a load on the leader of an ensemble, or on what the machine allows (`--limit`) where `target` is a directory."""
    where = ["--server", f"127.0.0.1:{target.leader()}"] if isinstance(target, Ensemble) else ["--limit", str(target)]
    command = [rookeeper_binary(), "bench", *where, "--operation", operation, "--connections", str(connections), "--pipeline",
               str(pipeline), "--seconds", str(options.seconds), "--warmup", str(WARM_UP), "--value-size", "100", "--json", *more]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stdout}{finished.stderr}")
    return json.loads(finished.stdout)


def load_with_cpu(ensemble, options, operation, connections, pipeline, *more):
    """The report, and microseconds of processor time of all servers for one operation."""
    before = ensemble.cpu_seconds()
    report = load(ensemble, options, operation, connections, pipeline, *more)
    # The warm-up is as busy as the time that is counted.
    operations = report["throughput_ops_per_second"] * (options.seconds + WARM_UP)
    return report, (ensemble.cpu_seconds() - before) * 1_000_000 / operations
