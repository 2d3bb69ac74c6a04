"""Names that programs and libraries import, and what isinstance says of them."""

from __future__ import annotations

import importlib
import pickle

import pytest
from compat_target import exceptions, ray

ERRORS = {
    "RayError": Exception,
    "RayTaskError": "RayError",
    "RayActorError": "RayError",
    "ActorDiedError": "RayActorError",
    "ActorUnavailableError": "RayActorError",
    "GetTimeoutError": ("RayError", TimeoutError),
    "WorkerCrashedError": "RayError",
    "TaskCancelledError": "RayError",
    "ObjectLostError": "RayError",
    "OwnerDiedError": "ObjectLostError",
    "ObjectReconstructionFailedError": "ObjectLostError",
    "ObjectFetchTimedOutError": "ObjectLostError",
    "ObjectFreedError": "ObjectLostError",
    "ReferenceCountingAssertionError": ("ObjectLostError", AssertionError),
    "ObjectStoreFullError": "RayError",
    "OutOfDiskError": "RayError",
    "OutOfMemoryError": "RayError",
    "NodeDiedError": "RayError",
    "LocalRayletDiedError": "RayError",
    "RaySystemError": "RayError",
    "RuntimeEnvSetupError": "RayError",
    "TaskUnschedulableError": "RayError",
    "ActorUnschedulableError": "RayError",
    "TaskPlacementGroupRemoved": "RayError",
    "ActorPlacementGroupRemoved": "RayError",
    "PendingCallsLimitExceeded": "RayError",
    "AsyncioActorExit": "RayError",
    "PlasmaObjectNotAvailable": "RayError",
    "CrossLanguageError": "RayError",
    "UserCodeException": "RayError",
    "RpcError": "RayError",
    "AuthenticationError": "RayError",
    "ObjectRefStreamEndOfStreamError": "RayError",
    "StreamingGeneratorReplayInconsistentError": "RayError",
    "OufOfBandObjectRefSerializationException": "RayError",
    "UnserializableException": "RayError",
    "ActorAlreadyExistsError": (ValueError, "RayError"),
    "ActorHandleNotFoundError": (ValueError, "RayError"),
    "RayChannelError": "RayError",
    "RayChannelTimeoutError": ("RayChannelError", TimeoutError),
    "RayCgraphCapacityExceeded": "RayError",
    "RayDirectTransportError": "RayError",
}


@pytest.mark.row("5.names", "5.lost", "5.system", "5.env", "5.unschedulable", "5.group_removed")
@pytest.mark.parametrize("name", ERRORS)
def test_error_classes(name):
    bases = ERRORS[name]
    cls = getattr(exceptions, name)
    for base in bases if isinstance(bases, tuple) else (bases,):
        wanted = getattr(exceptions, base) if isinstance(base, str) else base
        assert issubclass(cls, wanted), (cls.__mro__, wanted)


@pytest.mark.row("5.lost")
@pytest.mark.parametrize(
    "name", ["ObjectLostError", "OwnerDiedError", "ObjectFetchTimedOutError", "ObjectFreedError"]
)  # fmt: skip
def test_lost_objects_errors_name_the_object(name):
    cls = getattr(exceptions, name)
    error = cls("ab" * 28, b"", "")
    assert error.object_ref_hex == "ab" * 28
    assert "ab" * 28 in str(error)
    assert isinstance(pickle.loads(pickle.dumps(error)), cls)


@pytest.mark.row("1.classes")
def test_modules_and_classes(cluster):
    @ray.remote
    def f():
        return 1

    @ray.remote
    class A:
        def m(self):
            return 1

    actor = importlib.import_module(f"{ray.__name__}.actor")
    handle = A.remote()
    assert isinstance(A, actor.ActorClass)
    assert isinstance(handle, actor.ActorHandle)
    assert isinstance(handle.m, actor.ActorMethod)
    assert callable(actor.exit_actor)
    remote_function = importlib.import_module(f"{ray.__name__}.remote_function")
    assert isinstance(f, remote_function.RemoteFunction)
    types = importlib.import_module(f"{ray.__name__}.types")
    assert types.ObjectRef is not None
    assert isinstance(f.remote(), ray.ObjectRef)
    assert ray.ObjectID is ray.ObjectRef
    assert ray.get(f.remote()) == ray.get(handle.m.remote()) == 1


@pytest.mark.row("1.classes")
def test_cloudpickle():
    offset = 5
    copy = ray.cloudpickle.loads(ray.cloudpickle.dumps(lambda x: x + offset))
    assert copy(1) == 6


@pytest.mark.row("1.classes")
def test_handles_pickle_with_cloudpickle(cluster):
    @ray.remote
    class A:
        def m(self):
            return 7

    handle = A.remote()
    copy = ray.cloudpickle.loads(ray.cloudpickle.dumps(handle))
    assert copy == handle and ray.get(copy.m.remote()) == 7


@pytest.mark.row("1.constants")
def test_constants():
    assert (ray.SCRIPT_MODE, ray.WORKER_MODE) == (0, 1)
    assert isinstance(ray.__version__, str) and isinstance(ray.__commit__, str)


@pytest.mark.row("3.repr")
def test_the_repr_of_an_actor_is_in_its_errors(cluster):
    @ray.remote
    class Named:
        def __repr__(self):
            return "Named(number=5)"

        def fail(self):
            raise ValueError("no")

    with pytest.raises(ValueError) as caught:
        ray.get(Named.remote().fail.remote())
    assert "Named(number=5)" in str(caught.value)


@pytest.mark.row("1.get_actor", "5.actor_lookup")
def test_a_handle_of_an_old_session(no_cluster):
    from compat_target import start

    @ray.remote
    class A:
        def m(self):
            return 1

    start()
    old = A.remote()
    ray.get(old.m.remote())
    ray.shutdown()
    start()
    with pytest.raises(exceptions.ActorHandleNotFoundError):
        ray.kill(old)


@pytest.mark.row("3.handles", "14.borrowing")
def test_a_handle_given_away_at_once(cluster):
    """The receiver may ask about the actor before its creation has arrived anywhere."""
    from compat_target import ON_RAY

    @ray.remote
    class Counter:
        def __init__(self):
            self.n = 0

        def add(self):
            self.n += 1
            return self.n

    @ray.remote
    def use(counter):
        return ray.get(counter.add.remote())

    for _ in range(3 if ON_RAY else 200):
        counter = Counter.remote()
        assert sorted(ray.get([use.remote(counter) for _ in range(3)])) == [1, 2, 3]
