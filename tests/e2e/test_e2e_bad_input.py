"""Wrong input: a typed error, at once, with nothing left behind and no hang."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest
from e2e_help import ROOT

# Runs statements and says what each raised and how long it took.
ASK = """
import sys, time, threading
import skate as ray

def ask(text):
    began = time.monotonic()
    try:
        exec(text, globals())
        kinds, words = ["nothing"], ""
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        words = str(error).replace("\\n", " ")
    print("answer", ",".join(kinds), f"{time.monotonic() - began:.3f}", words, flush=True)

@ray.remote
def f(*args):
    return args

@ray.remote
class A:
    def m(self, *args):
        return args
"""


def answers(program, count: int) -> list[tuple[list[str], float, str]]:
    """(class names of the exception, seconds, text) of each statement that a program asked."""
    program.succeeds(40)
    found = [re.fullmatch(r"answer (\S+) (\S+) ?(.*)", line) for line in program.out]
    parsed = [(m[1].split(","), float(m[2]), m[3]) for m in found if m]
    assert len(parsed) == count, program.text()
    return parsed


def assert_raised(asked, got, limit_s: float) -> None:
    """Each statement raised one of its kinds, at once, and said something; all faults together."""
    faults = []
    for (statement, kinds), (raised, seconds, words) in zip(asked, got, strict=True):
        if not set(kinds.split(",")) & set(raised):
            faults.append(f"{statement}: {raised[0]}: {words}, not {kinds}")
        elif seconds > limit_s:
            faults.append(f"{statement}: took {seconds} s")
        elif not words:
            faults.append(f"{statement}: {raised[0]} without a word")
    assert not faults, "\n" + "\n".join(faults)


# Statement, and the kinds of exception of which it must raise one.
IN_A_SESSION = [
    ("f.remote(threading.Lock())", "TypeError"),
    ("f.remote([{'deep': threading.Lock()}])", "TypeError"),
    ("A.remote().m.remote(threading.Lock())", "TypeError"),
    ("ray.put(threading.Lock())", "TypeError"),
    ("f.options(num_cpus=-1)", "ValueError"),
    ("f.options(num_cpus=0.00001).remote()", "ValueError"),
    ("f.options(resources={'gold': -1})", "ValueError"),
    ("f.options(resources={'gold': 'much'})", "TypeError"),
    ("f.options(resources={5: 1})", "TypeError"),
    ("f.options(resources=['gold'])", "TypeError"),
    ("f.options(num_cpus='one')", "TypeError"),
    ("f.options(num_cpus=float('nan')).remote()", "ValueError"),
    ("f.options(num_cpus=float('inf')).remote()", "ValueError,OverflowError"),
    ("A.options(num_cpus=-1)", "ValueError"),
    ("ray.init()", "RuntimeError"),
    ("ray.get(f)", "ValueError"),
    ("ray.kill(5)", "ValueError"),
    ("f.remote(x=1)", "TypeError"),
]


def test_in_a_session(site):
    asks = "".join(f"ask({statement!r})\n" for statement, _ in IN_A_SESSION)
    program = site.python(
        ASK + "ray.init(num_cpus=1)\nray.get(f.remote())\n" + asks
        + "assert ray.get(f.remote(7)) == (7,), 'the session is usable after'\nray.shutdown()\n"
    )
    assert_raised(IN_A_SESSION, answers(program, len(IN_A_SESSION)), 1.0)
    site.assert_nothing_left()


# The same without a session; afterwards there must still be none.
BEFORE_A_SESSION = [
    ("ray.init(num_cpus=-1)", "ValueError"),
    ("ray.init(num_cpus=1.5)", "ValueError"),
    ("ray.init(num_cpus='many')", "TypeError,ValueError"),
    ("ray.init(resources={'gold': -1})", "ValueError"),
    ("ray.init(resources={'gold': 'x'})", "TypeError,ValueError"),
    ("ray.init(resources='gold')", "TypeError,ValueError"),
    ("ray.init(no_such_keyword=1)", "RuntimeError"),
    ("ray.init(address='auto')", "ConnectionError"),
    ("ray.init(address='127.0.0.1:1')", "ConnectionError"),
    ("ray.init(address='nonsense')", "ConnectionError,ValueError"),
    ("ray.init(address='127.0.0.1:99999999')", "ConnectionError,ValueError"),
    ("ray.init(address='127.0.0.1:1', num_cpus=2)", "ValueError"),
    ("ray.init(address='no-such-host.invalid:6379')", "ConnectionError,ValueError"),
    ("ray.init(object_store_memory=-5)", "ValueError"),
    ("ray.nodes()", "RuntimeError,RaySystemError"),
    ("ray.cluster_resources()", "RuntimeError,RaySystemError"),
]


def test_before_a_session(site):
    asks = "".join(f"ask({statement!r})\nassert not ray.is_initialized()\n"
                   for statement, _ in BEFORE_A_SESSION)
    program = site.python(
        ASK + asks
        + "print('ended', flush=True)\nsys.stdin.read()\nimport os\n"
          "while not os.path.exists(sys.argv[1]):\n    time.sleep(0.01)\n"
          "ray.init(num_cpus=1)\nassert ray.get(f.remote(7)) == (7,)\nray.shutdown()\n",
        str(site.folder / "go_on"),
    )
    program.expect("ended", 40)
    site.assert_nothing_left()
    (site.folder / "go_on").touch()
    assert_raised(BEFORE_A_SESSION, answers(program, len(BEFORE_A_SESSION)), 3.0)
    site.assert_nothing_left()


@contextlib.contextmanager
def server(greeting: bytes) -> Iterator[int]:
    """A TCP server that is not ours: greets every caller, never answers. Its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                connection.sendall(greeting)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in held:
            connection.close()


@pytest.mark.parametrize("greeting, word", [
    # The first frame of a gRPC server: HTTP/2 SETTINGS. So does a real Ray's GCS greet.
    (bytes.fromhex("000012040000000000" "0004003fffff" "0005003fffff"), "Ray"),
    (b"-ERR unknown command\r\n", "Redis"),
    (b"", "another program"),
    (b"\xff" * 4096, "another program"),
], ids=["grpc", "redis", "silent", "noise"])
def test_an_address_of_something_else(site, greeting, word):
    with server(greeting) as port:
        statement = f"ray.init(address='127.0.0.1:{port}')"
        program = site.python(ASK + f"ask({statement!r})\n")
        [(kinds, seconds, words)] = answers(program, 1)
    assert {"ConnectionError", "ValueError", "RuntimeError"} & set(kinds), (kinds, words)
    assert seconds < 6.0
    assert word in words


RAY = ROOT / "build" / "rayenv" / "bin" / "ray"


@pytest.mark.slow
@pytest.mark.skipif(not RAY.exists() or not os.environ.get("SKATE_TEST_REAL_RAY"),
                    reason="SKATE_TEST_REAL_RAY is not set, or build/rayenv is missing")
def test_the_address_of_a_real_ray(site):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = site.environment({"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"})
    command = [str(RAY), "start", "--head", f"--port={port}", "--num-cpus=1", "--node-ip-address",
               "127.0.0.1", "--include-dashboard=false", f"--temp-dir={site.folder}/ray"]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=50)
    try:
        program = site.python(ASK + f"ask(\"ray.init(address='127.0.0.1:{port}')\")\n")
        found = program.expect(r"answer (\S+) (\S+) ?(.*)", 20)
        assert {"ConnectionError", "RuntimeError"} & set(found[1].split(","))
        assert "Ray" in found[3] and float(found[2]) < 5.0
    finally:
        for process in site.processes():
            if "ray" in process.command:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, 9)


# ------------------------------------------------------------------------------- tasks that wait


@pytest.mark.parametrize("options, word", [
    ("num_cpus=64", "CPU"),
    ("resources={'unobtainium': 1}", "unobtainium"),
    ("num_gpus=3", "GPU"),
])
def test_what_no_node_fits_waits_and_is_announced(site, options, word):
    program = site.python(ASK + f"""
ray.init(num_cpus=1)
ray.get(f.remote())
ref = f.options({options}).remote()
print("submitted", flush=True)
ready, rest = ray.wait([ref], timeout=1.5)
print("ready", len(ready), "rest", len(rest), "others", ray.get(f.remote(3)), flush=True)
""")
    program.expect("submitted")
    program.expect(word, 1.0, stream="err")
    program.expect(r"ready 0 rest 1 others \(3,\)")
    program.succeeds()


def test_an_actor_that_no_node_fits_is_announced(site):
    program = site.python(ASK + """
ray.init(num_cpus=1)
actor = A.options(num_cpus=99).remote()
ref = actor.m.remote()
print("submitted", flush=True)
print("ready", len(ray.wait([ref], timeout=1.5)[0]), flush=True)
""")
    program.expect("submitted")
    program.expect("CPU", 1.0, stream="err")
    program.expect("ready 0")
    program.succeeds()


def test_fork_in_user_code(site):
    program = site.python(ASK + """
import os
ray.init(num_cpus=1)
ref = f.remote(1)
print(ray.get(ref), flush=True)
child = os.fork()
if child == 0:
    try:
        ray.get(f.remote(2))
        print("child nothing", flush=True)
    except BaseException as error:
        print("child error", type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", ray.get(f.remote(3)), flush=True)
""")
    line = program.expect("child .*")[0]
    assert "error" in line and "fork" in line
    program.expect(r"parent \(3,\)")
    program.succeeds()


def test_a_temp_folder_that_cannot_be_used(site):
    blocked = site.folder / "file"
    blocked.write_text("not a folder")
    program = site.python(ASK + "ask('ray.init(num_cpus=1)')\n",
                          env={"TMPDIR": str(blocked), "SKATE_TMPDIR": str(blocked)})
    found = program.expect(r"answer (\S+) (\S+) ?(.*)")
    program.succeeds()
    assert "Exception" in found[1] and "nothing" not in found[1] and float(found[2]) < 3


def test_old_handles_after_shutdown(site):
    program = site.python(ASK + """
ray.init(num_cpus=1)
ref, actor = f.remote(1), A.remote()
ray.get([ref, actor.m.remote()])
ray.shutdown()
ray.init(num_cpus=1)
ask("ray.get(ref, timeout=3)")
ask("ray.get(actor.m.remote(), timeout=3)")
ask("assert ray.get(f.remote(2)) == (2,)")
""")
    program.succeeds()
    answers = [line.split()[1] for line in program.out if line.startswith("answer")]
    assert len(answers) == 3 and "nothing" not in answers[:2] and answers[2] == "nothing"
