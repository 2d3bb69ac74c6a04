"""Where objects are spilled to: folders, URIs, an S3 server; what is left afterwards: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from e2e_help import until

import skate as ray
from skate.exceptions import ObjectStoreFullError

MB = 1 << 20
STORE = 32 * MB


@pytest.fixture
def start():
    def init(directory=None, **system):
        ray.shutdown()
        ray.init(num_cpus=2, object_store_memory=STORE, object_spilling_directory=directory,
                 _system_config=system)  # fmt: skip

    yield init
    ray.shutdown()


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a real S3 server of this module's own: its URI, options, a look at it."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "an-id", "secret": "the-secret-word",
               "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}  # fmt: skip
    files = s3fs.S3FileSystem(**options, use_listings_cache=False, skip_instance_cache=True)
    files.mkdir("spilled")
    yield "s3://spilled/here", options, lambda: files.find("spilled", refresh=True)
    server.stop()


def fill(count=12, size=8 * MB):
    """Three times what the store holds."""
    return [ray.put(np.full(size, i, np.uint8)) for i in range(count)]


def insist(refs, count):
    """Put until there are so many, through a store that is full now and then."""
    deadline = time.monotonic() + 40
    while len(refs) < count:
        assert time.monotonic() < deadline
        try:
            refs.append(ray.put(np.full(8 * MB, len(refs), np.uint8)))
        except ObjectStoreFullError:
            pass  # what is there has not been written yet


def check(refs, size=8 * MB):
    for i, ref in enumerate(refs):
        value = ray.get(ref, timeout=50)
        assert value.size == size and (value == i).all(), i


def spill_files(*folders):
    return [p for folder in folders for p in Path(folder).rglob("*") if p.is_file()]


def test_several_folders_share_it(start, tmp_path):
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    start(folders, max_spilling_file_size_bytes=MB, min_spilling_size=16 * MB)
    refs = fill()
    for folder in folders:
        until(lambda folder=folder: spill_files(folder), 30, f"a file in {folder}")
    assert all(p.stat().st_size < 10 * MB for p in spill_files(*folders))  # one object each
    check(refs)
    ray.shutdown()
    assert spill_files(*folders) == []


@pytest.mark.parametrize("uri", ["file://{}/far", "memory://far"])
def test_uris(start, tmp_path, uri):
    start(uri.format(tmp_path))
    refs = fill()
    check(refs)
    if uri.startswith("file"):
        assert sum(p.stat().st_size for p in spill_files(tmp_path)) >= 40 * MB
        del refs
        until(lambda: not spill_files(tmp_path), 30, "the files of objects that are gone go")
    ray.shutdown()
    assert spill_files(tmp_path) == []


def test_s3(start, bucket):
    uri, options, names = bucket
    params = {"uri": uri, "storage_options": options}
    start(object_spilling_config={"type": "smart_open", "params": params})
    refs = fill(8)
    check(refs)
    assert len(names()) >= 1
    ray.shutdown()
    until(lambda: names() == [], 30, "the session's files go")


def helper_pid():
    """The process beside our raylet that spills to a URI."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                mine = f"SKATE_TEST_RUN={os.environ['SKATE_TEST_RUN']}".encode()
                if b"_spill_remote" in command and mine in (entry / "environ").read_bytes():
                    return int(entry.name)
            except OSError:
                continue
    return 0


def test_the_helper_dies(start, tmp_path):
    """Files outlive it; what lay in its memory is lost, and told as that."""
    start(f"file://{tmp_path}")
    refs = fill()
    os.kill(until(helper_pid, 10, "a helper"), signal.SIGKILL)
    check(refs)
    os.kill(until(helper_pid, 10, "a helper"), signal.SIGKILL)
    more = fill()
    check(refs)
    check(more)
    start("memory://x")

    put = fill()
    os.kill(until(helper_pid, 10, "a helper"), signal.SIGKILL)
    lost = 0
    for i, ref in enumerate(put):
        try:
            assert (ray.get(ref, timeout=50) == i).all()
        except ray.exceptions.ObjectLostError as error:
            assert "the file that it was written to cannot be read" in str(error)
            lost += 1
    assert 0 < lost < 12
    check(fill())  # and it goes on


def test_a_killed_session_leaves_nothing(tmp_path):
    """The driver alone, then all of its processes at once; the next session sweeps."""
    program = textwrap.dedent(f"""
        import sys
        import numpy as np
        import skate as ray
        ray.init(num_cpus=1, object_store_memory={STORE},
                 object_spilling_directory=sys.argv[1])
        refs = [ray.put(np.full({8 * MB}, i, np.uint8)) for i in range(12)]
        print("ready", flush=True)
        sys.stdin.read()
    """)
    for target in (str(tmp_path / "plain"), f"file://{tmp_path}/far"):
        driver = subprocess.Popen([sys.executable, "-c", program, target], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)  # fmt: skip
        try:
            assert driver.stdout.readline() == "ready\n"
            until(lambda: spill_files(tmp_path), 30, "something is spilled")
        finally:
            driver.kill()
            driver.wait()
        until(lambda: not spill_files(tmp_path), 20, f"all files in {target} go")


def test_a_target_that_fails_and_recovers(start, tmp_path):
    """The folder is taken away: puts wait, then a typed error; put back: it goes on."""
    target = tmp_path / "target"
    start(f"file://{target}", store_wait_s=1)
    warm = fill(6)
    until(lambda: spill_files(target), 30, "something is spilled")
    check(warm)
    del warm
    os.rename(target, tmp_path / "away")
    target.write_text("")  # a file where the folder was
    refs = []
    with pytest.raises(ObjectStoreFullError):
        for i in range(12):
            refs.append(ray.put(np.full(8 * MB, i, np.uint8)))
    target.unlink()
    os.rename(tmp_path / "away", target)
    insist(refs, 12)
    check(refs)


def test_a_slow_target_is_no_full_store(start, tmp_path):
    """Reads that are under way are waited for, however short a full store may be."""
    start(f"file://{tmp_path}", store_wait_s=0.2)
    refs = []
    insist(refs, 8)
    helper = until(helper_pid, 10, "a helper")
    until(lambda: spill_files(tmp_path), 30, "something is spilled")
    os.kill(helper, signal.SIGSTOP)
    try:
        for what in (refs, refs[0]):
            with pytest.raises(ray.exceptions.GetTimeoutError, match="is being read back from"):
                ray.get(what, timeout=0.7)
    finally:
        os.kill(helper, signal.SIGCONT)
    check(refs)


def test_switched_off(start):
    start(automatic_object_spilling_enabled=False, store_wait_s=0.2)
    with pytest.raises(ObjectStoreFullError):
        fill()
