"""Modules of Ray that are not there answer with an error that says so."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from compat_target import ON_RAY, ray

pytestmark = pytest.mark.row("1.lazy")


def test_workflow_is_gone():
    with pytest.raises(RuntimeError):
        ray.workflow  # noqa: B018
    with pytest.raises(RuntimeError):
        importlib.import_module(f"{ray.__name__}.workflow")


def test_what_never_was():
    with pytest.raises(AttributeError):
        ray.nothing_of_this_name  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{ray.__name__}.nothing_of_this_name")
    assert not hasattr(ray, "nothing_of_this_name")


@pytest.mark.skipif(ON_RAY, reason="these parts are in Ray")
@pytest.mark.parametrize("name", ["serve", "serve.handle", "job_submission", "llm",
                                  "train.torch"])  # fmt: skip
def test_parts_that_are_not_there(name):
    """Typed: an ImportError for those who try, NotSupportedError for those who want to know."""
    for package in ("skate", "ray"):
        code = (
            "import importlib\nfrom skate import _alias\n_alias.install()\n"
            "from skate.exceptions import NotSupportedError\n"
            f"try:\n    importlib.import_module('{package}.{name}')\n"
            "except ImportError as error:\n"
            "    assert isinstance(error, (NotSupportedError, NotImplementedError))\n"
            "    assert 'Meanwhile' in str(error), error\n"
            "else:\n    raise SystemExit('imported')\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.skipif(ON_RAY, reason="these parts are in Ray")
def test_names_that_are_not_there():
    for name in ("serve", "java_function", "workflow"):
        with pytest.raises(ray.exceptions.NotSupportedError, match=f"ray.{name} .*Meanwhile"):
            getattr(ray, name)
    for name in ("serve", "java_function"):
        assert not hasattr(ray, name)
    for name in ("java_function", "java_actor_class", "cpp_function", "cpp_actor_class"):
        with pytest.raises(ray.exceptions.NotSupportedError, match=f"{name} .*Meanwhile"):
            getattr(ray.cross_language, name)
    with pytest.raises(ray.exceptions.NotSupportedError, match="Meanwhile"):
        ray.train.ScalingConfig  # noqa: B018
    assert not hasattr(ray.train, "ScalingConfig")


@pytest.mark.skipif(ON_RAY, reason="this part is in Ray")
def test_what_is_missing_of_ray_data_says_so():
    data = importlib.import_module("skate.data")
    with pytest.raises(ray.exceptions.NotSupportedError, match="ray.data.read_csv .*Meanwhile"):
        data.read_csv  # noqa: B018
    with pytest.raises(ImportError, match="Meanwhile"):
        from skate.data import read_parquet  # noqa: F401
    from skate.data import Dataset

    assert data.Dataset is Dataset and callable(data.from_pandas_refs)
    assert ray.data is data
