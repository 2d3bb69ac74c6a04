"""The errors that get() raises: dual classes, pickles, system errors."""

from __future__ import annotations

import pickle

import pytest

from skate import _serialize, exceptions


class Coded(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Strict(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} {b}")
        self.a, self.b = a, b


@pytest.mark.parametrize(
    "cause",
    [ValueError("x"), KeyError("k"), OSError(2, "no"), UnicodeDecodeError("utf8", b"x", 0, 1, "?"),
     ExceptionGroup("g", [ValueError(1)]), StopIteration(3), Coded(7), Strict(1, 2)],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_dual_errors(cause):
    plain = exceptions.RayTaskError("f", "the traceback", cause, pid=1, ip="127.0.0.1")
    error = plain.as_instanceof_cause()
    assert isinstance(error, type(cause)) and isinstance(error, exceptions.RayTaskError)
    assert type(error).__name__ == f"RayTaskError({type(cause).__name__})"
    assert error.cause is cause and "the traceback" in str(error) and "pid=1" in str(error)
    for name, value in vars(cause).items():
        assert getattr(error, name) == value
    if type(cause) is Strict:
        return  # such a class cannot be rebuilt from its args by anybody
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and "the traceback" in str(again)


def test_a_cause_that_cannot_be_a_base():
    class Final(Exception):
        def __init_subclass__(cls, **kwargs):
            raise TypeError("no subclasses")

    error = exceptions.RayTaskError("f", "text", Final()).as_instanceof_cause()
    assert type(error) is exceptions.RayTaskError


def test_payload_of_what_cannot_be_rebuilt():
    payload = {"function": "f", "traceback": "its words", "type": "Odd", "cause": b"no pickle",
               "pid": 1, "ip": "i"}  # fmt: skip
    error = _serialize.task_error(payload)
    assert isinstance(error, exceptions.UnserializableException) and "its words" in str(error)
    error = _serialize.task_error({**payload, "cause": b""})
    assert isinstance(error, exceptions.RayTaskError) and "its words" in str(error)
    assert isinstance(error.cause, exceptions.RayError)


@pytest.mark.parametrize(
    "value, kind",
    [
        (b"worker_crashed\nit was killed", exceptions.WorkerCrashedError),
        (b"actor_died 0011 0\nSIGKILL", exceptions.ActorDiedError),
        (b"actor_unavailable 0011 0\nrestarts", exceptions.ActorUnavailableError),
        (b"owner_died\nx", exceptions.OwnerDiedError),
        (b"object_lost\nx", exceptions.ObjectLostError),
        (b"node_died\nx", exceptions.NodeDiedError),
        (b"raylet_died\nx", exceptions.LocalRayletDiedError),
        (b"store_full\nx", exceptions.ObjectStoreFullError),
        (b"something new\nx", exceptions.RaySystemError),
        (b"", exceptions.RaySystemError),
    ],
)
def test_system_errors(value, kind):
    error = _serialize.system_error(value, bytes(16))
    assert type(error) is kind
    assert type(pickle.loads(pickle.dumps(error))) is kind
    if kind is exceptions.ActorDiedError:
        assert error.actor_id == "0011" and not error.actor_init_failed and "SIGKILL" in str(error)


def test_every_ray_exception_pickles():
    for kind in exceptions.RAY_EXCEPTION_TYPES:
        error = kind()
        assert type(pickle.loads(pickle.dumps(error))) is kind
