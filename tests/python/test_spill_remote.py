"""The helper that spills to a URI: its protocol, over file://, memory:// and a real S3 server."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import signal
import socket
import sys
import time

import pytest

import skate
from skate import _spill_remote as remote
from skate import _store_config
from skate._spill_remote import FIRST, LAST, READ, REMOVE, START, WRITE

SLOT = 6 << 20
BUCKET = "spilled-here"


class Helper:
    """The raylet's side."""

    def __init__(self, uri, options=None, env=None):
        self.memory_fd = os.memfd_create("staging")
        os.ftruncate(self.memory_fd, remote.SLOTS * SLOT)
        self.memory = mmap.mmap(self.memory_fd, remote.SLOTS * SLOT)
        pairs = [socket.socketpair() for _ in range(1 + remote.SLOTS)]
        self.control, *self.slots = [ours for ours, _ in pairs]
        # The child's descriptors begin at 3, so what becomes one of them lies above.
        high = [fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 60) for _, theirs in pairs]
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", "from skate._spill_remote import main; main()"],
            {**os.environ, **(env or {})},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, 3 + i) for i, fd in enumerate(high)],
        )
        for fd in high:
            os.close(fd)
        for _, other in pairs:
            other.close()
        for sock in (self.control, *self.slots):
            sock.settimeout(40)
        text = f"{uri}\n0123456789abcdef\n{json.dumps(options) if options else ''}".encode()
        head = remote.REQUEST.pack(remote.MAGIC, START, 0, os.getpid(), SLOT, 0, len(text))
        socket.send_fds(self.control, [head], [self.memory_fd])
        self.control.sendall(text)
        self.started = self._answer(self.control)[0]

    def _answer(self, sock):
        head = b""
        while len(head) < remote.REPLY.size:
            more = sock.recv(remote.REPLY.size - len(head))
            if not more:
                raise EOFError
            head += more
        magic, op, status, count, _, size = remote.REPLY.unpack(head)
        text = sock.recv(count, socket.MSG_WAITALL).decode() if count else ""
        assert magic == remote.MAGIC
        return (status, text), op, size

    def ask(self, op, file, at=0, count=0, flags=0, slot=0):
        """(status, text) of one request."""
        sock = self.slots[slot]
        sock.sendall(remote.REQUEST.pack(remote.MAGIC, op, file, at, count, flags, 0))
        answer, echo, _ = self._answer(sock)
        assert echo == op
        return answer

    def write(self, file, data, slot=0, part=SLOT):
        """The whole file; (status, text) of the first part that fails, or of the last."""
        at = 0
        while True:
            piece = data[at : at + part]
            self.memory[slot * SLOT : slot * SLOT + len(piece)] = piece
            last = at + len(piece) == len(data)
            flags = (FIRST if at == 0 else 0) | (LAST if last else 0)
            found = self.ask(WRITE, file, at, len(piece), flags, slot)
            if found[0] or last:
                return found
            at += len(piece)

    def read(self, file, at, count, slot=0):
        status, text = self.ask(READ, file, at, count, slot=slot)
        if status:
            return status, text
        return self.memory[slot * SLOT : slot * SLOT + count]

    def end(self):
        """Close the control socket; the exit code."""
        for sock in (self.control, *self.slots):
            sock.close()
        self.memory.close()
        os.close(self.memory_fd)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return code


@pytest.fixture
def helpers():
    made = []

    def make(*args, **kwargs):
        made.append(Helper(*args, **kwargs))
        return made[-1]

    yield make
    for helper in made:
        if helper.pid:
            helper.end()


@pytest.fixture(scope="module")
def s3():
    """Options for a real S3 server of this module's own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "key": "the-key-id", "secret": "the-secret-word",
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}"},
        "config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 5},
    }  # fmt: skip
    import s3fs

    files = s3fs.S3FileSystem(**options, use_listings_cache=False, skip_instance_cache=True)
    files.mkdir(BUCKET)
    yield options, files
    server.stop()


def some(count, seed=0):
    import numpy as np

    return np.random.default_rng(seed).bytes(count)


def both_slots_and_all_requests(helper):
    assert helper.started == (0, "")
    small, large = some(4096), some(2 * SLOT + 4096, 1)
    for slot in range(remote.SLOTS):
        file = 10 + slot
        assert helper.write(file, small, slot) == (0, "")
        assert helper.read(file, 0, 4096, slot) == small
        assert helper.read(file, 100, 1, 1 - slot) == small[100:101]
        assert helper.write(20 + slot, large, slot) == (0, "")
        assert helper.read(20 + slot, SLOT - 4096, 8192, slot) == large[SLOT - 4096 : SLOT + 4096]
        assert helper.read(20 + slot, len(large) - 4096, 4096, slot) == large[-4096:]
    # Written anew, also when the first try was given up in the middle.
    helper.memory[:SLOT] = bytes(SLOT)
    assert helper.ask(WRITE, 20, 0, SLOT, FIRST) == (0, "")
    assert helper.write(20, large) == (0, "") and helper.read(20, 0, 4096) == large[:4096]
    # What is not there, or not in order, is told as what it is.
    assert helper.read(10, 4000, 97)[0] == remote.GONE
    assert helper.read(99, 0, 1)[0] == remote.GONE
    assert helper.ask(WRITE, 30, SLOT, 1, LAST)[0] == remote.BROKEN
    assert helper.ask(REMOVE, 10) == (0, "") == helper.ask(REMOVE, 10)
    assert helper.read(10, 0, 1)[0] == remote.GONE
    assert helper.read(11, 0, 4096) == small


def test_files(helpers, tmp_path):
    helper = helpers(f"file://{tmp_path}/deep/er")
    both_slots_and_all_requests(helper)
    [folder] = os.listdir(tmp_path / "deep/er")
    assert folder == remote.session_name(os.getpid(), "0123456789abcdef")
    assert sorted(os.listdir(tmp_path / "deep/er" / folder)) == ["11", "20", "21"]
    assert helper.end() == 0
    assert os.listdir(tmp_path / "deep/er") == []


def test_memory(helpers):
    both_slots_and_all_requests(helpers("memory://some/where"))


def test_s3(helpers, s3):
    options, files = s3
    stale = f"{BUCKET}/a/{dead_name()}/3"
    files.pipe_file(stale, b"left over")
    helper = helpers(f"s3://{BUCKET}/a", options)
    both_slots_and_all_requests(helper)
    wait_until(lambda: not files.exists(stale))
    [folder] = files.ls(f"{BUCKET}/a", refresh=True)
    names = sorted(p.rpartition("/")[2] for p in files.ls(folder, refresh=True))
    assert names == ["11", "20", "21"]
    assert helper.end() == 0
    assert files.find(BUCKET, refresh=True) == []


def test_several_targets_take_turns(helpers, tmp_path):
    helper = helpers(f"file://{tmp_path}/a file://{tmp_path}/b")
    for file in range(1, 5):
        assert helper.write(file, bytes([file]) * 8) == (0, "")
    found = {n: sorted(os.listdir(next((tmp_path / n).iterdir()))) for n in "ab"}
    assert found == {"a": ["2", "4"], "b": ["1", "3"]}
    assert [helper.read(f, 7, 1) for f in (1, 2, 3, 4)] == [b"\1", b"\2", b"\3", b"\4"]


def wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def dead_name():
    words = remote.session_name(os.getpid(), "f" * 16).split("-")
    words[6] = str(int(words[6]) - 1)  # the same number, started before
    return "-".join(words)


def test_left_overs_of_the_dead_go_and_nothing_else(helpers, tmp_path):
    living = remote.session_name(os.getpid(), "e" * 16)
    far = living.replace(living.split("-")[2], "0" * 12)
    other_space = "-".join([*living.split("-")[:4], "1", "2", "3", "d" * 16])
    old_boot = "-".join([*living.split("-")[:3], "0" * 12, "1", "2", "3", "d" * 16])
    stay = [living, far, other_space, "skate-spill-x", "skate-spill-" + "f" * 16, "mine"]
    for name in (dead_name(), old_boot, *stay):
        (tmp_path / name).mkdir()
        (tmp_path / name / "7").write_text("x")
    helper = helpers(f"file://{tmp_path}")
    wait_until(lambda: not {dead_name(), old_boot} & set(os.listdir(tmp_path)))
    assert helper.end() == 0
    assert sorted(os.listdir(tmp_path)) == sorted(stay)


def test_failures_have_a_kind_and_no_password(helpers, s3, tmp_path):
    options, _ = s3
    wrong = {**options, "secret": "my-own-secret"}
    helper = helpers("s3://no-such-bucket/x", wrong)
    status, text = helper.write(1, b"data")
    assert status == remote.REFUSED and "no-such-bucket" in text and "my-own" not in text
    with socket.socket() as unused:  # bound and not listening: nobody else gets the port
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        helper = helpers(f"s3://{BUCKET}/x", {**wrong, "client_kwargs": {"endpoint_url": url}})
        status, text = helper.write(1, b"data")
    assert status == remote.TRANSIENT and "my-own" not in text
    helper = helpers("nosuch://me:pass-word@x/y")
    assert helper.started[0] == remote.REFUSED
    assert "nosuch" in helper.started[1] and "pass-word" not in helper.started[1]
    (tmp_path / "file").write_text("")
    helper = helpers(f"file://{tmp_path}/file/x")
    assert helper.write(1, b"data")[0] == remote.REFUSED
    assert helper.write(1, some(SLOT + 1))[0] == remote.REFUSED


def test_a_full_disk_leaves_nothing_half_written(helpers, tmp_path):
    """A limit of the size of files stands for the disk."""
    import resource

    helper = helpers(f"file://{tmp_path}")
    resource.prlimit(helper.pid, resource.RLIMIT_FSIZE, (SLOT + 4096, SLOT + 4096))
    for data in (some(2 * SLOT), some(SLOT)):
        status, text = helper.write(1, data)
        folder = tmp_path / os.listdir(tmp_path)[0]
        if len(data) > SLOT:
            assert status == remote.FULL and "too large" in text and os.listdir(folder) == []
    assert status == 0 and os.listdir(folder) == ["1"]


def test_nonsense_ends_that_slot_only(helpers, tmp_path):
    helper = helpers(f"file://{tmp_path}")
    helper.slots[0].sendall(b"x" * remote.REQUEST.size)
    assert helper.slots[0].recv(1) == b""
    assert helper.write(5, b"fine", slot=1) == (0, "")


def test_signals_do_not_end_it_but_its_raylet_does(helpers, tmp_path):
    helper = helpers(f"file://{tmp_path}")
    assert helper.write(1, b"data") == (0, "")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(helper.pid, number)
    assert helper.read(1, 0, 4) == b"data"
    assert helper.end() == 0 and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), remote.GONE),
        (OSError(errno.ENOSPC, "x"), remote.FULL),
        (OSError(errno.EDQUOT, "x"), remote.FULL),
        (PermissionError(errno.EACCES, "x"), remote.REFUSED),
        (OSError(errno.EROFS, "x"), remote.REFUSED),
        (OSError(errno.EBUSY, "SlowDown"), remote.TRANSIENT),
        (ConnectionResetError(), remote.TRANSIENT),
        (TimeoutError(), remote.TRANSIENT),
        (MemoryError(), remote.TRANSIENT),
        (type("HttpError", (Exception,), {"code": 503})(), remote.TRANSIENT),
        (type("HttpError", (Exception,), {"status": 403})(), remote.REFUSED),
        (type("HttpError", (Exception,), {"code": 418})(), remote.BROKEN),
        (type("NoCredentialsError", (Exception,), {})(), remote.REFUSED),
        (type("ServerDisconnectedError", (Exception,), {})(), remote.TRANSIENT),
        (ValueError("x"), remote.BROKEN),
    ],
)
def test_kinds_of_errors(error, kind):
    assert remote.kind_of(error) == kind


def test_secrets_are_taken_out(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from-the-environment")
    options = {"secret": "word-one", "deep": [{"token": "word-two"}], "endpoint_url": "http://a"}
    text = "word-one word-two from-the-environment ftp://me:word-three@host/x http://a"
    assert remote.without_secrets(text, options) == "*** *** *** ftp://***@host/x http://a"


def test_init_tries_the_uri_at_once(s3, tmp_path):
    """What cannot be written to is an error of init(), typed, and starts nothing."""
    options, files = s3
    (tmp_path / "file").write_text("")

    def told(uri, **more):
        given = {"type": "smart_open", "params": {"uri": uri, "storage_options": more}}
        return _store_config.settings(None, {"object_spilling_config": given})

    assert dict(told(f"s3://{BUCKET}/b", **options))["spill"] == f"s3://{BUCKET}/b"
    assert files.find(BUCKET, refresh=True) == []
    skate.shutdown()
    with pytest.raises(PermissionError, match="object_spilling_directory: cannot spill objects to"):
        skate.init(num_cpus=1, object_spilling_directory=f"file://{tmp_path}/file/x")
    assert not skate.is_initialized()
    with pytest.raises(OSError, match="no-such-bucket") as raised:
        told("s3://no-such-bucket/x", **{**options, "secret": "my-own-secret"})
    assert "my-own-secret" not in str(raised.value)
