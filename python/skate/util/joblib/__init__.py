"""joblib's parallel backend "ray": its batches run as tasks of the cluster."""

from __future__ import annotations


def register_ray() -> None:
    """Make the backend "ray" known: `with joblib.parallel_config(backend="ray"): ...`.

    ImportError when joblib is not installed.
    """
    try:
        from joblib.parallel import register_parallel_backend
    except ImportError as error:
        raise ImportError("register_ray() needs joblib: pip install joblib") from error
    from skate.util.joblib.ray_backend import RayBackend

    register_parallel_backend("ray", RayBackend)


__all__ = ["register_ray"]
