"""Trees come back as they went, bit for bit and type for type."""

import collections
import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvjobs.records.run_files import Manifest
from lvjobs.worker.state import Packer, unpack
from lvjobs.worker.stored import open_checkpoint, write_file

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def pack(tree, where="state"):
    packer = Packer()
    return packer.pack(tree, where), packer.parts.__getitem__


def save_trees(directory, trees):
    """Write the trees as a checkpoint."""
    (directory / "saved").mkdir()
    write_file(directory / "x.safetensors", Manifest(1, 1, {}), trees, directory / "saved")


def load_trees(directory):
    """Read them back."""
    with open_checkpoint(directory / "x.safetensors") as stored:
        return stored.trees()


def equal(left, right):
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        return (left.dtype, left.shape) == (right.dtype, right.shape) and bits(left) == bits(right)
    if isinstance(left, (np.ndarray, np.generic)):
        return (left.dtype, left.shape) == (right.dtype, right.shape) and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return equal(list(left), list(right)) and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (left, math.copysign(1, left)) == (
            right,
            math.copysign(1, right),
        )
    return left == right


def bits(tensor):
    if tensor.dtype is torch.complex128:
        tensor = torch.view_as_real(tensor)
    return bytes(tensor.reshape(-1).contiguous().view(torch.uint8).tolist()) if tensor.numel() else b""


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    size = torch.empty(0, dtype=dtype).element_size()
    raw = draw(st.binary(min_size=count * size, max_size=count * size))
    if dtype is torch.bool:
        raw = bytes(byte % 2 for byte in raw)
    flat = torch.tensor(list(raw), dtype=torch.uint8).view(torch.float64 if dtype is torch.complex128 else dtype)
    if dtype is torch.complex128:
        flat = torch.view_as_complex(flat.reshape(-1, 2))
    return flat.reshape(shape)


@st.composite
def arrays(draw):
    dtype = np.dtype(
        draw(st.sampled_from(["?", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8", "<c16", "<U3", "S2", "<M8[s]"]))
    )
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    if dtype.kind in "?bU":
        values = draw(
            st.lists(
                st.sampled_from(["", "a", "bcé"]) if dtype.kind == "U" else st.booleans(),
                min_size=count,
                max_size=count,
            )
        )
        return np.array(values, dtype=dtype).reshape(shape)
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    return np.frombuffer(raw, dtype=dtype).reshape(shape).copy()


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
    st.builds(np.float64, st.floats()), st.builds(np.float32, st.floats(width=32)), st.builds(np.int64, st.integers(-9, 9)),
    st.builds(np.bool_, st.booleans()), st.builds(np.str_, st.text("abc", min_size=1)),
)  # fmt: skip
keys = st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.none())
trees = st.recursive(
    st.one_of(scalars, tensors(), arrays()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=250, deadline=None)
@given(trees)
def test_pack_and_unpack(tree):
    assert equal(tree, unpack(*pack(tree)))


@settings(max_examples=60, deadline=None)
@given(trees)
def test_through_files(tmp_path_factory, tree):
    directory = tmp_path_factory.mktemp("tree")
    save_trees(directory, {"name": tree})
    ((name, loaded),) = load_trees(directory).items()
    assert name == "name"
    assert equal(tree, loaded)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_empty_scalar_and_strided(tmp_path, dtype):
    base = torch.arange(12).reshape(3, 4).to(torch.float32).to(dtype)
    tree = {0: base[1, 1], 1: base[:0], 2: base.t(), 3: base[::2, 1:]}
    save_trees(tmp_path, {"x": tree})
    ((_, loaded),) = load_trees(tmp_path).items()
    assert equal({key: value.contiguous() for key, value in tree.items()}, loaded)


def test_an_optimizer(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_trees(tmp_path, {"optimizer": optimizer.state_dict()})
    ((_, loaded),) = load_trees(tmp_path).items()
    assert equal(optimizer.state_dict(), loaded)
    assert set(loaded["state"]) == {0, 1}, "int keys stay ints"
    torch.optim.AdamW(model.parameters()).load_state_dict(loaded)


def test_numbers_that_json_has_no_word_for(tmp_path):
    tree = {float("nan"): float("inf"), "x": [float("-inf"), float("nan"), -0.0, 1e300, 5e-324, 2**200]}
    save_trees(tmp_path, {"x": tree})
    ((_, loaded),) = load_trees(tmp_path).items()
    assert equal(list(tree.values()), list(loaded.values()))


def test_tied_weights_and_views_are_copied_apart(tmp_path):
    big = torch.arange(1000.0)
    save_trees(tmp_path, {"x": {"a": big, "b": big, "c": big[5:7]}})
    ((_, loaded),) = load_trees(tmp_path).items()
    assert equal(loaded, {"a": big, "b": big, "c": big[5:7].clone()})


def test_a_view_does_not_drag_its_storage_along(tmp_path):
    save_trees(tmp_path, {"x": torch.zeros(1_000_000)[:3]})
    assert (tmp_path / "x.safetensors").stat().st_size < 1000


def test_trees_that_share_memory_come_back_apart(tmp_path):
    big = torch.arange(10.0)
    save_trees(tmp_path, {"x": {"big": big}, "y": big, "empty": {}})
    assert equal(load_trees(tmp_path), {"x": {"big": big}, "y": big.clone(), "empty": {}})


def test_what_an_older_lvjobs_wrote_is_read(tmp_path):
    trees = {"_rng": {"python": (3, (1, 2), None)}, "optimizer": {0: torch.arange(3.0)}}
    for name, tree in trees.items():
        packer = Packer()
        (tmp_path / f"{name}.tree.json").write_text(json.dumps(packer.pack(tree, name)))
        tensors = {part.name: part.tensor() for part in packer.parts.values()}
        safetensors.torch.save_file(tensors, tmp_path / f"{name}.tree.safetensors")
    (tmp_path / "manifest.json").write_text(Manifest(1, 1, {}).to_json())
    with open_checkpoint(tmp_path) as stored:
        assert equal(stored.trees(), trees)


def test_loaded_arrays_and_tensors_are_writable(tmp_path):
    save_trees(tmp_path, {"x": {"a": np.zeros(3), "t": torch.zeros(3)}})
    tree = load_trees(tmp_path)["x"]
    tree["a"][0] = 1
    tree["t"][0] = 1


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (object(), "object"),
        (torch.nn.Linear(1, 1), "Linear"),
        (Point(1, 2), "Point"),
        (np.array([object()]), "object"),
        (np.zeros(2, dtype=[("a", "f4")]), "f4"),
        (torch.zeros(2).to_sparse(), "sparse"),
        (torch.zeros(2, device="meta"), "meta"),
        ({(1, 2): 3}, "key of type tuple"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(value, words):
    with pytest.raises(TypeError, match=words) as caught:
        pack({"deep": [value]}, "data")
    assert "data.deep[0]" in str(caught.value)


def test_an_unknown_tag_is_refused():
    with pytest.raises(ValueError, match="pickle"):
        unpack({"pickle": "x"}, {}.__getitem__)


def test_keys_that_look_alike_are_kept_apart(tmp_path):
    tree = {1: torch.zeros(1), "1": torch.ones(1), "1'": torch.ones(2), "a": {"b": torch.ones(3)}, "a.b": torch.ones(4)}
    save_trees(tmp_path, {"x": tree})
    assert equal(load_trees(tmp_path), {"x": tree})


def test_the_safetensors_library_reads_a_checkpoint(tmp_path):
    """Under names that tell where each tensor was, and aligned, as other readers that map the file want them."""
    state = {
        "m": torch.zeros(3, dtype=torch.int8),
        "exp_avg": torch.arange(6.0).reshape(2, 3),
        "step": torch.tensor(4.0),
    }
    save_trees(tmp_path, {"optimizer": {"state": {0: state}}})
    loaded = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert equal(
        {name.removeprefix("optimizer.state.0."): tensor for name, tensor in sorted(loaded.items())},
        dict(sorted(state.items())),
    )


def test_a_tensor_of_a_type_without_a_name_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"x\.a: a tensor of type \w+ cannot be checkpointed"):
        pack({"a": torch.zeros(2).to(torch.float8_e8m0fnu)}, "x")
