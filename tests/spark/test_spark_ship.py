"""Executors whose Python has no Skate: what set-up says, and ship()."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from spark_help import has_java


def bare_python(folder: Path) -> str:
    """A Python without a single package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin/python")
    assert subprocess.run([python, "-c", "import skate"], capture_output=True).returncode == 1
    return python


@pytest.mark.skipif(not has_java(), reason="there is no Java")
def test_executors_without_skate(
    no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    import skate
    from skate.util.spark import attach, local_cluster, setup_ray_cluster, ship

    python = bare_python(tmp_path / "bare")
    monkeypatch.setenv("PYSPARK_PYTHON", python)

    def where() -> tuple[str, str]:
        return os.path.dirname(skate.__file__), sys.executable

    def in_a_udf(numbers: Any) -> Any:
        attach()
        yield skate.get([skate.remote(lambda x: 2 * x).remote(n) for n in numbers])

    with local_cluster(1, 2, 1024) as spark:
        with pytest.raises(RuntimeError) as failed:
            setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1)
        assert python in str(failed.value) and "ship()" in str(failed.value)
        ship()
        archives = list(spark.sparkContext.listArchives)
        ship(spark)
        assert list(spark.sparkContext.listArchives) == archives and len(archives) == 3
        with setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1):
            skate.init()
            package, used = skate.get(skate.remote(where).remote())
            assert used == python  # and out of the executor's own folder
            assert "work" in Path(package).parts and package != os.path.dirname(skate.__file__)
            rows = spark.sparkContext.parallelize([3, 4], 1).mapPartitions(in_a_udf).collect()
            assert rows == [[6, 8]]


def test_what_is_packed(tmp_path: Path) -> None:
    from skate.util.spark import _ship

    made = _ship.archives(str(tmp_path))
    assert [path.rpartition("#")[2] for path in made] == ["skate", "cloudpickle", "click"]
    with tarfile.open(made[0].partition("#")[0]) as archive:
        entries = {entry.name: entry for entry in archive}
    assert {"__init__.py", "_core.abi3.so", "util/spark/_task.py"} <= set(entries)
    assert entries["bin/skate-raylet"].mode & stat.S_IXUSR
    assert not any("__pycache__" in name or name.startswith("include") for name in entries)
    assert {entry.uid for entry in entries.values()} == {0}
    before = os.stat(made[0].partition("#")[0]).st_mtime_ns
    assert _ship.archives(str(tmp_path)) == made
    assert os.stat(made[0].partition("#")[0]).st_mtime_ns == before
    with pytest.raises(RuntimeError, match="no plain folder"):
        _ship._folder_of("_json")
