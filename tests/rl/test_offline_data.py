"""Offline data: batches, readers, writers, estimators."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import random
import sys

import numpy as np
import pytest

from skate.rllib._errors import OfflineDataError
from skate.rllib.offline import (
    DatasetReader,
    DatasetWriter,
    IOContext,
    JsonReader,
    JsonWriter,
    MixedInput,
    ShuffledInput,
    get_dataset_and_shards,
)
from skate.rllib.offline.dataset_reader import read_dataset
from skate.rllib.offline.estimators import (
    DirectMethod,
    DoublyRobust,
    ImportanceSampling,
    WeightedImportanceSampling,
)
from skate.rllib.offline.estimators.fqe import FQEModel
from skate.rllib.offline.is_estimator import ImportanceSamplingEstimator
from skate.rllib.offline.wis_estimator import WeightedImportanceSamplingEstimator
from skate.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch, concat_samples
from skate.rllib.utils import compression


def steps(n=6, start=0, episode=3):
    """n steps of a counting environment whose episodes are `episode` steps long."""
    t = np.arange(start, start + n)
    return SampleBatch({
        "obs": np.stack([t, t * 0.5], axis=1).astype(np.float32),
        "new_obs": np.stack([t + 1, t * 0.5 + 0.5], axis=1).astype(np.float32),
        "actions": t % 2, "rewards": t.astype(np.float32),
        "terminateds": t % episode == episode - 1, "truncateds": np.zeros(n, bool),
        "eps_id": t // episode, "action_prob": np.full(n, 0.5)})


def same(a, b):
    assert set(a) == set(b)
    for name in a:
        assert np.array_equal(np.asarray(a[name]), np.asarray(b[name])), name


# ---- batches ------------------------------------------------------------------------------------

def test_batch_is_a_dictionary_of_columns():
    batch = steps()
    assert batch.count == len(batch) == batch.env_steps() == 6
    same(batch[2:5], batch.slice(2, 5))
    assert batch[-2:].count == 2 and batch[4:2].count == 0
    assert [part.count for part in batch.timeslices(4)] == [4, 2]
    assert [part.count for part in batch.timeslices(num_slices=4)] == [1, 2, 1, 2]
    assert [part.count for part in batch.split_by_episode()] == [3, 3]
    assert list(batch["dones"]) == [False, False, True] * 2
    same(concat_samples(batch.timeslices(size=4)), batch)
    rows = list(batch.rows())
    assert rows[3]["rewards"] == 3 and rows[3]["obs"].tolist() == [3, 1.5]
    before = batch.copy()
    batch.shuffle()
    assert sorted(batch["rewards"]) == sorted(before["rewards"])
    assert np.array_equal(batch["obs"][:, 0], batch["rewards"])
    assert batch.to_device("cpu") is batch


def test_batch_with_sequences_is_cut_at_their_edges():
    batch = SampleBatch({"obs": np.arange(9), "seq_lens": [4, 2, 3],
                         "state_in_0": np.array([[10], [20], [30]])})
    part = batch.slice(2, 7)
    assert part["obs"].tolist() == [2, 3, 4, 5, 6] and part["seq_lens"].tolist() == [2, 2, 1]
    assert part["state_in_0"].tolist() == [[10], [20], [30]]
    assert batch.slice(4, 6)["state_in_0"].tolist() == [[20]]
    batch.shuffle()
    ends = np.cumsum(batch["seq_lens"])
    for i, end in enumerate(ends):
        rows = batch["obs"][end - batch["seq_lens"][i]:end]
        assert np.all(np.diff(rows) == 1)
        assert rows[0] == {10: 0, 20: 4, 30: 6}[batch["state_in_0"][i][0]]


def test_batch_errors_say_what_is_missing():
    with pytest.raises(KeyError, match="eps_id.*dones.*obs"):
        SampleBatch({"obs": [1, 2]}).split_by_episode()
    with pytest.raises(KeyError, match="'rewards'"):
        concat_samples([SampleBatch({"obs": [1], "rewards": [1]}), SampleBatch({"obs": [1]})])
    with pytest.raises(ValueError, match="either size or num_slices"):
        steps().timeslices()


def test_multi_agent_batch():
    batch = MultiAgentBatch({
        "a": SampleBatch({"obs": [0, 1, 2], "t": [0, 1, 2], "eps_id": [1, 1, 1]}),
        "b": SampleBatch({"obs": [5, 6], "t": [0, 2], "eps_id": [1, 1]})}, 3)
    assert (batch.agent_steps(), batch.env_steps()) == (5, 3)
    parts = batch.timeslices(2)
    assert [part.count for part in parts] == [2, 1]
    assert parts[1]["b"]["obs"].tolist() == [6]
    joined = concat_samples(parts)
    assert joined.count == 3 and joined["a"]["obs"].tolist() == [0, 1, 2]
    only = SampleBatch({"obs": [1]})
    assert MultiAgentBatch.wrap_as_needed({"default_policy": only}, 1) is only


# ---- JSON ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("columns", [(), ("obs", "new_obs")])
def test_json_comes_back_as_it_went(tmp_path, columns):
    writer = JsonWriter(str(tmp_path), compress_columns=columns)
    batches = [steps(6, 0), steps(4, 6)]
    for batch in batches:
        writer.write(batch)
    writer.close()
    reader = JsonReader(str(tmp_path))
    for batch, read in zip(batches, reader.read_all_files()):
        assert list(read.pop("dones")) == list(batch["dones"])
        same(read, batch)
    seen = {reader.next().count for _ in range(2)}
    assert seen == {6, 4} and reader.next().count in seen    # and over again


def test_writer_begins_a_new_file_at_the_size(tmp_path):
    writer = JsonWriter(str(tmp_path), max_file_size=200)
    for i in range(5):
        writer.write(steps(3, 3 * i))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5 and all("worker-0_" in path.name for path in files)
    assert sum(batch.count for batch in JsonReader(str(tmp_path / "*.json")).read_all_files()) == 15


def test_multi_agent_lines(tmp_path):
    writer = JsonWriter(str(tmp_path))
    writer.write(MultiAgentBatch({"a": steps(3), "b": steps(2)}, 3))
    read = JsonReader(str(tmp_path)).next()
    assert read.count == 3 and read["b"].count == 2


def test_reader_takes_lines_of_the_older_era(tmp_path):
    packed = base64.b64encode(frame(pickle.dumps(np.arange(6.0).reshape(3, 2), 2))).decode()
    line = {"type": "SampleBatch", "t": [0, 1, 2], "eps_id": [7, 7, 7], "obs": packed,
            "actions": [0, 1, 0], "rewards": [1.0, 1.0, 1.0], "dones": [False, False, True],
            "infos": [{}, {}, {"a": 1}], "unroll_id": [0, 0, 0]}
    (tmp_path / "out.json").write_text(json.dumps(line) + "\n")
    batch = JsonReader(str(tmp_path / "out.json")).next()
    assert batch["obs"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert list(batch["terminateds"]) == [False, False, True] and not batch["truncateds"].any()
    assert batch["infos"][2] == {"a": 1}


# The column "obs" of steps(6) as Ray 2.60's JsonWriter packs it (lz4, numpy 2).
RLLIB = (
    "BCJNGGhAsQAAAAAAAAAcnAAAAFKABZWmAAEA8hqME251bXB5Ll9jb3JlLm51bWVyaWOUjAtfZnJvbWJ1ZmZlcpSTlCiW"
    "MC8ABwIAUIA/AAAABAASQAwAokBAAADAPwAAgEAUAJGgQAAAIECUjAVhAPEWlIwFZHR5cGWUk5SMAmY0lImIh5RSlChL"
    "A4wBPJROTk5K/////wUA8AVLAHSUYksGSwKGlIwBQ5R0lFKULgAAAAA=")


def test_what_rllib_packed_is_read(monkeypatch):
    assert np.array_equal(compression.unpack(RLLIB), steps(6)["obs"])
    monkeypatch.setattr(compression, "_codec", lambda: None)
    assert np.array_equal(compression.unpack(RLLIB), steps(6)["obs"])


def test_last_line_cut_off_loses_only_itself(tmp_path, caplog):
    writer = JsonWriter(str(tmp_path))
    for i in range(4):
        writer.write(steps(3, 3 * i))
    writer.close()
    path, = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) - 40])
    with caplog.at_level(logging.WARNING):
        assert [b["rewards"][0] for b in JsonReader(str(path)).read_all_files()] == [0, 3, 6]
    assert f"{path}:4: the last line is cut off" in caplog.text


LINES = [
    ('{"type": "SampleBatch", "obs": [1, 2], "rewards": [1]}', "rewards", "1 rows.*'obs' has 2"),
    ('{"type": "SampleBatch", "obs": [[1, 2], [3]]}', "obs", "different shapes"),
    ('{"type": "SampleBatch", "obs": 3}', "obs", "one entry a step"),
    ('{"type": "SampleBatch", "obs": [null, 1]}', "obs", "numbers"),
    ('{"type": "SampleBatch", "obs": "not packed"}', "obs", "base64"),
    ('{"type": "Sample"}', "", "'type'"),
    ('[1, 2]', "", "object"),
    ('{"type": "MultiAgentBatch", "count": 1}', "", "policy_batches"),
    ('{"type": "MultiAgentBatch", "count": true, "policy_batches": {"a": {}}}', "", "count"),
    ('{"type": "SampleBatch", "obs": [1, 2', "", "not a line of JSON.*column"),
    ("[" * 100_000, "", "not a line of JSON|nested too deeply"),
]


@pytest.mark.parametrize("line, column, why", LINES, ids=range(len(LINES)))
def test_a_damaged_line_is_named(tmp_path, line, column, why):
    path = tmp_path / "x.json"
    good = '{"type": "SampleBatch", "obs": [1]}\n'
    path.write_text(good + "\n" + line + "\n" + good)
    batches = JsonReader(str(path)).read_all_files()
    assert next(batches).count == 1
    with pytest.raises(OfflineDataError, match=why) as caught:
        next(batches)
    assert (caught.value.path, caught.value.line, caught.value.column) == (str(path), 3, column)
    assert str(caught.value).startswith(f"{path}:3: ")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no offline data at .*nothing"):
        JsonReader(str(tmp_path / "nothing"))
    with pytest.raises(OfflineDataError, match="s3://.*fetch"):
        JsonReader("s3://bucket/x")
    (tmp_path / "x.json").write_text("\n")
    with pytest.raises(OfflineDataError, match="no batch in"):
        JsonReader(str(tmp_path)).next()


def test_any_damage_is_a_typed_error(tmp_path):
    """Fuzz: bytes of a file are changed, dropped, doubled: batches, or an error that says where."""
    writer = JsonWriter(str(tmp_path))
    writer.write(steps(3))
    writer.write(MultiAgentBatch({"a": steps(2)}, 2))
    writer.close()
    path, = tmp_path.iterdir()
    whole, rng, damaged = path.read_bytes(), random.Random(5), 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at:at + rng.randint(1, 40)]
            elif kind == 2:
                data[at:at] = data[at:at + rng.randint(1, 40)]
            else:
                data[at:at + 1] = rng.choice([b"[", b"{", b'"', b"null", b"1e999", b"\x00"])
        path.write_bytes(data)
        try:
            for batch in JsonReader(str(path)).read_all_files():
                assert batch.count >= 0
        except OfflineDataError as error:
            assert error.path == str(path) and error.line >= 1
            damaged += 1
    assert damaged > 100


# ---- packed columns -----------------------------------------------------------------------------

def frame(data, block=None):
    """An LZ4 frame whose blocks are stored (or `block` as one compressed block)."""
    body = (len(data) | 0x80000000).to_bytes(4, "little") + data
    if block is not None:
        body = len(block).to_bytes(4, "little") + block
    return b"\x04\x22\x4d\x18\x60\x40\x82" + body + b"\0\0\0\0"


def test_pack_and_unpack():
    if not compression.compression_supported():
        pytest.skip("neither lz4 nor pyarrow is here")
    value = np.random.default_rng(1).integers(0, 3, (500, 7))
    text = compression.pack(value)
    assert isinstance(text, str) and np.array_equal(compression.unpack(text), value)
    raw = base64.b64decode(text)
    assert compression.decompress_frame(raw) == compression._decompress(raw)
    assert b"numpy._core" not in compression.decompress_frame(raw)[:60]


def test_frames_are_read_without_any_package(monkeypatch):
    monkeypatch.setattr(compression, "_codec", lambda: None)
    assert not compression.compression_supported()
    assert compression.pack([1]) == [1]
    # "abcd", then 12 bytes from 4 back, then "z": an overlapping match.
    plain = compression.decompress_frame(frame(b"", b"\x48abcd\x04\x00\x10z"))
    assert plain == b"abcd" * 4 + b"z"
    made = base64.b64encode(frame(pickle.dumps({"a": [1, 2.5, "x"]}))).decode()
    assert compression.unpack(made) == {"a": [1, 2.5, "x"]}


DAMAGED = [b"nothing", frame(b"x" * 9)[:-8], frame(b"", b"\x24ab\xff\x00"), frame(b"", b"\xf0"),
           frame(b"", b"\x10a\x09\x00"), frame(b"junk")]


@pytest.mark.parametrize("raw", DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("package", [True, False])
def test_damaged_frames(monkeypatch, raw, package):
    if not package:
        monkeypatch.setattr(compression, "_codec", lambda: None)
    with pytest.raises(compression.CompressionError, match="LZ4|cut off|pickle"):
        compression.unpack(base64.b64encode(raw).decode())


def test_a_damaged_frame_costs_no_memory():
    """A reader that keeps what it made for a read that fails must not make much: forks of a process
    with more addresses than the machine has memory are refused."""
    def size():
        with open("/proc/self/statm", encoding="ascii") as numbers:
            return int(numbers.read().split()[0]) * 4096

    packed = base64.b64encode(frame(b"", b"\xf0")).decode()
    before = size()
    for _ in range(20):
        with pytest.raises(compression.CompressionError):
            compression.unpack(packed)
    assert size() - before < 1 << 30


def test_a_packed_column_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    packed = base64.b64encode(frame(pickle.dumps(Evil()))).decode()
    (tmp_path / "x.json").write_text(json.dumps({"type": "SampleBatch", "obs": packed}) + "\n")
    with pytest.raises(OfflineDataError, match=r"builtins\.print: only arrays") as caught:
        JsonReader(str(tmp_path)).next()
    assert caught.value.column == "obs"


# ---- Parquet and other sources ------------------------------------------------------------------

def test_parquet_comes_back_as_it_went(tmp_path):
    pytest.importorskip("pyarrow.parquet")
    context = IOContext(config={"output_config": {
        "format": "parquet", "path": str(tmp_path), "max_num_samples_per_file": 8}})
    writer = DatasetWriter(context)
    for i in range(4):
        writer.write(steps(3, 3 * i))
    writer.close()
    assert len(list(tmp_path.iterdir())) == 2
    config = {"input_config": {"format": "parquet", "paths": str(tmp_path)},
              "train_batch_size": 5, "seed": 1}
    data = read_dataset(config)
    data.pop("dones")
    same(data, steps(12))
    whole, shards = get_dataset_and_shards(config, 2)
    assert whole.count == 12 and shards[0] is None and [s.count for s in shards[1:]] == [6, 6]
    reader = DatasetReader(data, IOContext(config=config))
    drawn = np.concatenate([reader.next()["rewards"] for _ in range(12)])
    assert sorted(drawn) == sorted(list(range(12)) * 5)


def test_parquet_errors_name_file_and_column(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "x.parquet")
    config = {"input_config": {"format": "parquet", "paths": path}}
    for columns, column in (({"obs": [[1.0], [1.0, 2.0]]}, "obs"), ({"rewards": [1.0, None]},
                            "rewards"), ({"item": [b"x"]}, "item")):
        parquet.write_table(pyarrow.table(columns), path)
        with pytest.raises(OfflineDataError) as caught:
            read_dataset(config)
        assert (caught.value.path, caught.value.column) == (path, column)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(OfflineDataError, match="damaged"):
        read_dataset(config)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        read_dataset(config)


def test_rows_of_steps_and_loader(tmp_path):
    rows = [{"obs": [i, 1], "actions": i, "rewards": 1.0, "terminateds": i == 2}
            for i in range(3)]
    (tmp_path / "x.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_dataset({"input_config": {"format": "json", "paths": str(tmp_path)}})
    made = read_dataset({"input_config": {"loader_fn": lambda: rows}})
    same(read, made)
    assert read["obs"].shape == (3, 2) and list(read["dones"]) == [False, False, True]
    with pytest.raises(ValueError, match="input='dataset' needs"):
        read_dataset({"input_config": {"format": "json"}})
    with pytest.raises(ValueError, match="one of"):
        read_dataset({"input_config": {"format": "csv", "paths": "x"}})


class Fixed:
    def __init__(self, n):
        self.n = n
        self.at = 0

    def next(self):
        self.at += 1
        return SampleBatch({"obs": [100 * self.n + self.at]})


def test_mixed_and_shuffled_input():
    mixed = MixedInput({Fixed(1): 0.25, Fixed(2): 0.75}, IOContext(config={"seed": 1}))
    drawn = [mixed.next()["obs"][0] // 100 for _ in range(400)]
    assert 60 <= drawn.count(1) <= 140
    with pytest.raises(ValueError, match="add up to 1"):
        MixedInput({Fixed(1): 0.3})
    shuffled = ShuffledInput(Fixed(0), n=8, seed=2)
    order = [int(shuffled.next()["obs"][0]) for _ in range(50)]
    assert order != sorted(order) and len(set(order)) == 50 and max(order) <= 58
    plain = ShuffledInput(Fixed(0))
    assert [int(plain.next()["obs"][0]) for _ in range(3)] == [1, 2, 3]


# ---- estimators, by hand ------------------------------------------------------------------------

class Coin:
    """pi(1 | s) = 0.8 in state 0 and 0.4 in state 1."""

    class action_space:  # noqa: N801
        n = 2

    def compute_log_likelihoods(self, actions, obs_batch, **_):
        one = np.where(np.asarray(obs_batch).reshape(-1) == 0, 0.8, 0.4)
        return np.log(np.where(np.asarray(actions) == 1, one, 1 - one))


def episodes():
    return SampleBatch({
        "obs": [[0.0], [1.0], [0.0]], "new_obs": [[1.0], [1.0], [1.0]],
        "actions": [1, 0, 0], "rewards": [1.0, 2.0, 4.0], "eps_id": [1, 1, 2],
        "terminateds": [False, True, True], "action_prob": [0.5, 0.5, 0.5]})


def test_importance_sampling_by_hand():
    # Ratios 1.6, 1.2 | 0.4. Episode 1: 1.6 * 1 + 1.92 * 0.5 * 2 = 3.52; episode 2: 0.4 * 4.
    found = ImportanceSampling(Coin(), gamma=0.5).estimate(episodes())
    assert found["v_behavior"] == pytest.approx((2.0 + 4.0) / 2)
    assert found["v_target"] == pytest.approx((3.52 + 1.6) / 2)
    assert found["v_target_std"] == pytest.approx(0.96)
    assert found["v_gain"] == pytest.approx(2.56 / 3) and found["v_delta"] == pytest.approx(-0.44)


def test_weighted_importance_sampling_by_hand():
    # Mean weight at t = 0: (1.6 + 0.4) / 2 = 1, at t = 1: 1.92.
    found = WeightedImportanceSampling(Coin(), gamma=0.5).estimate(episodes())
    assert found["v_target"] == pytest.approx(((1.6 + 1.0) + 1.6) / 2)
    single = WeightedImportanceSampling(Coin(), 0.5).estimate(episodes(), False)
    assert single["v_target"] == pytest.approx((1.6 + 2.4 + 1.6) / 3 / (3.2 / 3))


class Known:
    def __init__(self, policy, gamma):
        pass

    def estimate_q(self, batch):
        return np.where(np.asarray(batch["actions"]) == 1, 2.0, 1.0)

    def estimate_v(self, batch):
        return np.full(batch.count, 1.5)


def test_doubly_robust_and_direct_method_by_hand():
    config = {"type": Known}
    found = DirectMethod(Coin(), 0.5, q_model_config=config).estimate(episodes())
    assert found["v_target"] == pytest.approx(1.5)
    # Episode 1 from behind: 1.5 + 1.2 (2 - 1) = 2.7; 1.5 + 1.6 (1 + 0.5 * 2.7 - 2) = 2.06.
    # Episode 2: 1.5 + 0.4 (4 - 1) = 2.7.
    found = DoublyRobust(Coin(), 0.5, q_model_config=config).estimate(episodes())
    assert found["v_target"] == pytest.approx((2.06 + 2.7) / 2)


def test_random_actions_are_counted_in():
    found = ImportanceSampling(Coin(), 0.5, epsilon_greedy=0.5).estimate(episodes()[2:])
    assert found["v_target"] == pytest.approx((0.2 * 0.5 + 0.25) / 0.5 * 4)


class Slope(Coin):
    """pi(1 | s) = 1 / (1 + exp(-s)); and a Q function."""

    def __init__(self, policy=None, gamma=None):
        pass

    def compute_log_likelihoods(self, actions, obs_batch, **_):
        one = 1 / (1 + np.exp(-np.asarray(obs_batch).reshape(-1)))
        return np.log(np.where(np.asarray(actions) == 1, one, 1 - one))

    def estimate_q(self, batch):
        return batch["obs"][:, 0] * batch["actions"]

    def estimate_v(self, batch):
        return batch["obs"][:, 0] * 0.5


def test_the_same_numbers_as_rllib():
    """What Ray 2.60's estimators say of the same data (in float32)."""
    rng = np.random.default_rng(1)
    lens = rng.integers(3, 9, 6)
    n = int(lens.sum())
    batch = SampleBatch({
        "obs": rng.normal(size=(n, 1)), "actions": rng.integers(0, 2, n),
        "rewards": rng.normal(size=n) + 1, "eps_id": np.repeat(np.arange(6), lens),
        "action_prob": rng.uniform(0.2, 0.9, n)})
    policy = Slope()
    found = [made.estimate(batch) for made in (
        ImportanceSampling(policy, 0.9), ImportanceSampling(policy, 0.9, 0.1),
        WeightedImportanceSampling(policy, 0.9), WeightedImportanceSampling(policy, 0.9, 0.1),
        DoublyRobust(policy, 0.9, q_model_config={"type": Slope}))]
    assert found[0]["v_behavior"] == pytest.approx(3.512035019, rel=1e-6)
    assert [one["v_target"] for one in found] == pytest.approx(
        [3.587437212, 3.601804749, 2.990627803, 3.005355004, 1.419987873], rel=1e-6)
    assert [one["v_target_std"] for one in found] == pytest.approx(
        [2.298169289, 2.106689245, 1.422087978, 1.436567567, 2.656205963], rel=1e-6)


def test_estimators_of_the_older_era():
    one = ImportanceSamplingEstimator(Coin(), 0.5)
    first, second = episodes().split_by_episode()
    estimate = one.estimate(first)
    assert estimate.estimator_name == "ImportanceSamplingEstimator"
    assert estimate.metrics == pytest.approx({"V_prev": 2, "V_step_IS": 3.52, "V_gain_est": 1.76})
    weighted = WeightedImportanceSamplingEstimator(Coin(), 0.5)
    weighted.process(episodes())
    metrics = [one.metrics["V_step_WIS"] for one in weighted.get_metrics()]
    # The first episode is alone with itself; the second meets the mean weight 1.
    assert metrics == pytest.approx([2.0, 1.6]) and weighted.get_metrics() == []


def test_estimators_say_what_is_missing():
    batch = episodes()
    with pytest.raises(ValueError, match="must be > 0.*row 1"):
        ImportanceSampling(Coin()).estimate(SampleBatch({**batch, "action_prob": [1, 0, 1.0]}))
    del batch["action_prob"]
    with pytest.raises(ValueError, match="'action_prob'"):
        ImportanceSampling(Coin()).estimate(batch)


def test_fitted_q_finds_the_value_and_its_gradient_is_right():
    model = FQEModel(Coin(), 0.5, n_iters=400, lr=1e-2, min_loss_threshold=1e-7)
    losses = model.train(episodes())
    assert losses[-1] < 1e-2 < losses[0]
    # Q(1, 0) = 2 and Q(0, 0) = 4 end an episode.
    assert model.estimate_q(episodes())[1:] == pytest.approx([2, 4], abs=0.1)
    obs, actions, wanted = np.array([[0.3], [0.9]]), np.array([0, 1]), np.array([1.0, -1.0])
    _loss, grads = model.gradient(obs, actions, wanted)
    for part, grad in zip(model._net, grads):
        at = (0,) * part.ndim
        keep, h = part[at], 1e-6
        part[at] = keep + h
        up, _ = model.gradient(obs, actions, wanted)
        part[at] = keep - h
        down, _ = model.gradient(obs, actions, wanted)
        part[at] = keep
        assert grad[at] == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-8)
