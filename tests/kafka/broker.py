"""A Kafka broker on this machine, of jars that Ivy brings."""

import os
import shlex
import socket
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pyspark
import pytest

IVY = Path(__file__).with_name("ivy.xml")
PATIENCE_S = 300  # a first run fetches 50 MB
QUICK = "-XX:TieredStopAtLevel=1"  # in so short a life, most of the time would go into compiling


def java() -> str:
    """The program that Spark runs too."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def jars(configuration: str, folder: Path) -> list[str]:
    """What a configuration of ivy.xml names, in Ivy's cache; skips the test where it can't be fetched."""
    (ivy,) = (Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar")
    found = folder / f"{configuration}.classpath"
    options = ["-warn", "-ivy", str(IVY), "-confs", configuration, "-cachepath", str(found)]
    command = [java(), "-jar", str(ivy), *options]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        pytest.skip("Maven Central, which has Kafka's jars, does not answer")
    said = run.stdout + run.stderr
    if "UNRESOLVED DEPENDENCIES" in said or "FAILED DOWNLOADS" in said:
        pytest.skip("Kafka's jars can't be fetched from Maven Central")
    assert run.returncode == 0, said
    return found.read_text().strip().split(os.pathsep)


@contextmanager
def running_broker(folder: Path) -> Iterator[str]:
    """A broker, its data in a folder, as host:port. A topic that is written to is created, with two partitions."""
    program = [java(), QUICK, "-Xmx256m", "-cp", os.pathsep.join(jars("broker", folder))]
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        address, controller = (f"127.0.0.1:{probe.getsockname()[1]}" for probe in (one, other))
    properties = folder / "server.properties"
    properties.write_text(
        f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{address},CONTROLLER://{controller}
log.dirs={folder / "data"}
num.partitions=2
offsets.topic.replication.factor=1
"""
    )
    cluster = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
    log = folder / "broker.log"
    with log.open("w") as output:
        formatting = [*program, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)]
        formatted = subprocess.run(formatting, stdout=output, stderr=output, timeout=PATIENCE_S)
        assert formatted.returncode == 0, log.read_text()[-3000:]
        process = subprocess.Popen([*program, "kafka.Kafka", str(properties)], stdout=output, stderr=output)
    try:
        until = time.monotonic() + PATIENCE_S
        while "Kafka Server started" not in log.read_text():
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def spark_with_kafka(folder: Path) -> str:
    """The value of PYSPARK_SUBMIT_ARGS with which a process's Spark can talk to a broker."""
    return shlex.join(["--driver-java-options", QUICK, "--jars", ",".join(jars("spark", folder)), "pyspark-shell"])
