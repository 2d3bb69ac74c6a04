"""Programs 1 and 2, and the sort, as people run them."""

from __future__ import annotations

import sys

import pytest
from e2e_help import EXAMPLES


@pytest.mark.parametrize("name", ["task_graph.py", "actor_tree.py", "sort_larger_than_memory.py"])
def test_help(site, name):
    program = site.start(sys.executable, str(EXAMPLES / name), "--help").succeeds()
    assert "--num-cpus" in program.text()


def test_task_graph(site):
    program = site.start(sys.executable, str(EXAMPLES / "task_graph.py")).succeeds(30)
    program.expect("checked: equals numpy, one copy of the array")
    program.expect(r"\(analyse pid=\d+\) 16 of 16 blocks done")
    site.assert_nothing_left()


@pytest.mark.parametrize("arguments", [["--blocks", "1"], ["--blocks", "7", "--megabytes", "3"],
                                       ["--num-cpus", "1", "--megabytes", "1"]])
def test_task_graph_of_odd_shapes(site, arguments):
    program = site.start(sys.executable, str(EXAMPLES / "task_graph.py"), *arguments).succeeds(30)
    program.expect("checked: equals numpy")


def test_task_graph_refuses_nonsense(site):
    program = site.start(sys.executable, str(EXAMPLES / "task_graph.py"), "--blocks", "0")
    assert program.wait(10) == 2


@pytest.mark.parametrize("restarts", ["0", "4"])
def test_actor_tree(site, restarts):
    program = site.start(sys.executable, str(EXAMPLES / "actor_tree.py"), "--restarts", restarts)
    program.succeeds(30).expect("all checked")
    program.expect(r"\[1/3\] counter: 20 increments, value 20")
    site.assert_nothing_left()


def test_sort_of_more_than_the_store_holds(site):
    folder = site.folder / "spill"
    command = [sys.executable, str(EXAMPLES / "sort_larger_than_memory.py")]
    program = site.start(*command, "--spill-directory", str(folder)).succeeds(50)
    program.expect("checked: 5,242,880 records in order")
    assert not any(folder.iterdir())


@pytest.mark.parametrize("arguments", [["--parts", "1", "--megabytes", "8"],
                                       ["--num-cpus", "1", "--megabytes", "50", "--parts", "7"]])
def test_sort_of_odd_shapes(site, arguments):
    command = [sys.executable, str(EXAMPLES / "sort_larger_than_memory.py"), *arguments]
    site.start(*command).succeeds(30).expect("checked: .* records in order")


def test_sort_says_when_its_merges_are_too_large(site):
    command = [sys.executable, str(EXAMPLES / "sort_larger_than_memory.py"), "--parts", "4"]
    program = site.start(*command)
    assert program.wait(10) == 2 and "more --parts" in program.text()


def test_actor_tree_deeper(site):
    command = [sys.executable, str(EXAMPLES / "actor_tree.py"), "--depth", "3", "--fanout", "2",
               "--numbers", "5000", "--rounds", "5", "--examples", "100", "--num-cpus", "1"]
    site.start(*command).succeeds(30).expect("all checked")
