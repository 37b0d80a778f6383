"""Calls of ``torch.ops.graphmem`` that go around the Python faces: what does not fit is named, and nothing is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_torch_integration import operators
from torch import Tensor

from graphmem import ops

pytestmark = pytest.mark.skipif(not ops.NATIVE, reason="needs the compiled library")

OPERATORS = operators()
# Where the size of one argument follows from another, the one that is looked at later is named.
NAMED = {
    "col": "rowptr",
    "col_a": "rowptr_a",
    "col_b": "rowptr_b",
    "idx": "ptr",
    "cn_index pairs 1": "ptr",
    "cn_gather_sum_backward pairs 1": "grad",
    "dropout_relu_backward y 0": "grad",
    "dropout_relu_backward y 1": "grad",
    "coherence prev 0": "row",
    "coherence x 1": "prev",
    "coherence_backward prev 0": "row",
    "coherence_backward x 1": "prev",
    "gru_step state 0": "g",
    "gru_step state 1": "g",
    "gru_step_backward state 0": "grad",
    "gru_step_backward state 1": "grad",
    "memory_gru memory 1": "weight_ih",
    "memory_gru node 0": "other",
    "memory_gru msg 1": "weight_ih",
    "memory_gru time_weight 0": "time_bias",
    "memory_gru_backward grad 0": "dt",
    "memory_gru_backward grad 1": "gates",
    "memory_gru_backward inputs 1": "weight_ih",
    "memory_gru_backward time_weight 0": "time_bias",
    "ncache_commit key 0": "eid",
    "ncache_commit value 2": "now",
    "ncache_commit src 0": "dst",
    "ncache_commit nodes 0": "now",
    **{
        f"ncache_{name}": named
        for way in ("", "_backward")
        for name, named in {
            f"pool{way} key 0": "eid",
            f"pool{way} nodes 0": "now",
            f"pool{way} first 0": "second",
            f"pool{way} position 1": "query",
            f"pool{way} now 2": "query",
            f"pool{way} query 0": "constant",
            f"refresh{way} key 0": "eid",
            f"refresh{way} key 1": "eid",
            f"refresh{way} nodes 0": "row",
            f"refresh{way} value 2": "weight",
            f"refresh{way} state 1": "weight",
            f"refresh{way} messages 1": "weight",
            f"refresh{way} time_weight 0": "time_bias",
        }.items()
    },
    **{
        f"nat_{name} {argument}": named
        for name in ("score", "update")
        for argument, named in {
            "key 0": "eid",
            "value 2": "weights",
            "state 1": "weights",
            "messages 0": "known",
        }.items()
    },
    **{
        f"nat_train{way} {argument}": named
        for way in ("", "_backward")
        for argument, named in {
            "key 0": "eid",
            "value 2": "lin_value",
            "state 1": "messages",
            "messages 0": "known",
            "t 0": "grad",
        }.items()
    },
    "nat_enter key 0": "eid",
    "nat_enter value 2": "now",
    "nat_enter src 0": "dst",
    "nat_enter nodes 0": "now",
    "nat_enter own 1": "state",
    "nat_score src 0": "dst",
    "nat_update src 0": "dst",
    "norm_dropout_relu x 1": "weight",
    "norm_dropout_relu_backward x 0": "grad",
    "norm_dropout_relu_backward x 1": "grad",
    "pair_head pairs 1": "place",
    "pair_head h 1": "weights_t",
    "pair_head weights_t 0": "biases",
    "pair_relu_dot dst 0": "src",
    "pair_relu_dot weight 0": "h",
    "pair_relu_dot_backward dst 0": "src",
    "pair_relu_dot_backward dst 1": "grad",
    "pair_relu_dot_backward weight 0": "h",
    "pair_product_backward pairs 1": "tptr",
    "pair_product_backward x 0": "tptr",
    "pair_product_backward x 1": "grad",
    "pending_events src 0": "dst",
    "pres_correct measured 0": "nodes",
    "pres_correct measured 1": "prev",
    "pres_correct n 0": "mean",
    "pres_correct n 1": "mean",
    "pres_correct_backward measured 0": "grad",
    "pres_correct_backward measured 1": "grad",
    "pres_observe n 0": "mean",
    "pres_observe n 1": "mean",
    "pres_observe x 0": "nodes",
    "pres_observe x 1": "mean",
    "ring_graph nbr 1": "eid",
    "ring_graph count 0": "nbr",
    "ring_insert nbr 1": "eid",
    "ring_insert count 0": "nbr",
    "ring_insert src 0": "dst",
    "ring_query nbr 1": "eid",
    "ring_query count 0": "nbr",
    "ring_query ids 0": "before",
    "segment_gather_dot x 1": "grad",
    "segment_gather_sum x 0": "tptr",
    "temporal_append start 0": "length",
    "temporal_append nbr 0": "eid",
    "temporal_append src 0": "dst",
    "temporal_sample start 0": "length",
    "temporal_sample nbr 0": "eid",
    "temporal_sample ids 0": "t",
    **{
        f"temporal_attention{way} {name}": named
        for way in ("", "_backward")
        for name, named in {
            "x 1": "query",
            "nbr 0": "query",
            "nbr 1": "dt",
            "time_weight 0": "query",
            "messages 1": "query",
        }.items()
    },
    "time_code weight 0": "bias",
    "time_code_backward dt 0": "grad",
    "time_code_backward weight 0": "bias",
}
# Sizes that nothing else depends on, or that only ids do, which are the caller's promise.
FREE = {
    "cn_count pairs 1",
    "cn_gather_sum pairs 1",
    "cn_gather_sum x 1",
    "cn_gather_sum_backward grad 2",
    "coherence x 0",
    "coherence_backward x 0",
    "distinct ids 0",
    "find_edges pairs 1",
    "dropout x 0",
    "dropout x 1",
    "memory_gru memory 0",
    "nat_score dst 1",
    "nat_train nodes 0",
    "nat_train_backward nodes 0",
    "nat_update asked 1",
    "ncache_join key 0",
    "ncache_join nodes 0",
    "ncache_join nodes 1",
    "ncache_refresh messages 0",
    "ncache_refresh_backward messages 0",
    "norm_dropout_relu x 0",
    "pair_head h 0",
    "pair_head branch 0",
    "pair_relu_dot h 0",
    "pair_relu_dot dst 1",
    "pair_relu_dot_backward h 0",
    "pair_product pairs 1",
    "pair_product x 0",
    "pair_product x 1",
    "pres_correct slot 0",
    "pres_observe slot 0",
    "pres_observe scale 0",
    "ring_graph ids 0",
    "segment_gather_dot x 0",
    "segment_gather_sum x 1",
    "temporal_attention x 0",
    "temporal_attention messages 0",
    "temporal_attention_backward x 0",
    "temporal_attention_backward messages 0",
    "time_code dt 0",
}
SIZES = ("parts", "num_nodes", "num_cols", "total", "num_cn", "count", "k", "num_pair_layers")


def arguments_of(operator: str) -> list[str]:
    schema = getattr(torch.ops.graphmem, operator).default._schema
    return [argument.name for argument in schema.arguments]


def tensors() -> Iterator[Any]:
    """Operator, its arguments, and the place of one that is a tensor."""
    for operator, calls in OPERATORS.items():
        for number, arguments in enumerate(calls):
            for place, (name, value) in enumerate(zip(arguments_of(operator), arguments, strict=True)):
                if isinstance(value, Tensor):
                    yield pytest.param(operator, arguments, place, name, id=f"{operator}-{number}-{name}")


every_tensor = pytest.mark.parametrize(("operator", "arguments", "place", "name"), list(tensors()))


def refused(operator: str, arguments: tuple[Any, ...], place: int, value: object) -> str:
    """What an operator says to a call with another value in one place."""
    changed = [*arguments[:place], value, *arguments[place + 1 :]]
    with torch.no_grad(), pytest.raises(RuntimeError, match=rf"{operator}: expected ") as caught:
        getattr(torch.ops.graphmem, operator)(*changed)
    return str(caught.value).partition(f"{operator}: expected ")[2]


def test_every_operator_is_called() -> None:
    names = {name for operator, calls in OPERATORS.items() for name in arguments_of(operator) if calls}
    assert names >= {*SIZES, "pairs", "x", "grad", "rowptr", "ptr"}
    assert {f"graphmem::{operator}" for operator in OPERATORS} == {
        schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("graphmem::")
    }


@every_tensor
def test_a_dimension_too_many(operator: str, arguments: tuple[Any, ...], place: int, name: str) -> None:
    if operator == "dropout":
        pytest.skip("takes any shape")
    value = arguments[place].detach()
    named = "grad" if (operator, name) == ("dropout_relu_backward", "y") else name
    message = refused(operator, arguments, place, value[None])
    assert re.match(rf"{named} of shape \[.*\], got \[.*\]", message), message


@every_tensor
def test_a_size_too_short(operator: str, arguments: tuple[Any, ...], place: int, name: str) -> None:
    given = dict(zip(arguments_of(operator), arguments, strict=True))
    value = arguments[place].detach()
    if operator in ("matmul", "head_matmul"):
        pytest.skip("has a test of its own: which size is the inner one depends on the transposes")
    if given.get("slot") is not None and name in ("weight", "keep"):
        pytest.skip("slots name their own places")
    for d in range(value.dim()):
        key = f"{operator} {name} {d}"
        named = NAMED.get(key, NAMED.get(name, name))
        # Without the argument that would be named the size is free.
        if key in FREE or given.get(named) is None or value.size(d) == 0:
            continue
        message = refused(operator, arguments, place, value.narrow(d, 0, value.size(d) - 1).contiguous())
        assert re.match(rf"{named} (of shape \[.*\]|with|from)", message), message
        assert ", got " in message


@every_tensor
def test_a_dtype_of_the_same_size(operator: str, arguments: tuple[Any, ...], place: int, name: str) -> None:
    if name == "time":
        pytest.skip("may have either; what goes with it is named then")
    others = {torch.bool: torch.uint8, torch.float16: torch.int16, torch.bfloat16: torch.int16}
    others |= {torch.float32: torch.int32, torch.int32: torch.float32, torch.int64: torch.float64}
    others[torch.float64] = torch.int64
    value = arguments[place].detach()
    message = refused(operator, arguments, place, value.to(others[value.dtype]))
    assert re.match(rf"{name} of (a floating-point )?dtype( .*)?, got ", message), message


@every_tensor
def test_a_layout_with_gaps(operator: str, arguments: tuple[Any, ...], place: int, name: str) -> None:
    if operator == "head_matmul":
        pytest.skip("takes any strides")
    value = arguments[place].detach()
    if value.numel() <= 1:
        pytest.skip("one number is contiguous whatever its strides")
    message = refused(operator, arguments, place, value.repeat_interleave(2, dim=-1)[..., ::2])
    assert message == f"{name} to be contiguous"


@pytest.mark.parametrize("number", [-1, -(2**63), 2**62])
@pytest.mark.parametrize("operator", OPERATORS)
def test_numbers_that_are_no_sizes(operator: str, number: int) -> None:
    for place, name in enumerate(arguments_of(operator)):
        arguments = OPERATORS[operator][-1]
        if name not in SIZES or isinstance(arguments[place], Tensor):
            continue
        if (operator, name, number) == ("sample_rows", "k", 2**62):
            continue
        message = refused(operator, arguments, place, number)
        assert re.match(rf"{name} from -?\d+ to \d+, got {number}", message), message


def test_results_that_offsets_do_not_fit() -> None:
    arguments = OPERATORS["cn_index"][0]
    total, num_cn = arguments[-2:]
    assert refused("cn_index", arguments, 10, total - 1).startswith(f"ptr with offsets up to total = {total - 1}, got")
    assert refused("cn_index", arguments, 11, num_cn - 1) == f"num_cn of {num_cn} as in ptr, got {num_cn - 1}"
    assert refused("cn_index", arguments, 9, arguments[9] + 1) == "ptr[0] from 0 on, got 1"
    arguments = OPERATORS["sample_rows"][0]
    message = refused("sample_rows", arguments, 2, arguments[2] - 1)
    assert message.startswith("out_ptr of shape [11] with offsets from 0 to")
    arguments = OPERATORS["find_edges"][0]
    message = refused("find_edges", arguments, 0, arguments[0][:0])
    assert message == "rowptr with at least 1 in the first size, got [0]"
    message = refused("sample_non_edges", OPERATORS["sample_non_edges"][0], 2, 9)
    assert message == "num_nodes from 10 to 10, got 9"


@pytest.mark.parametrize("name", ["x", "h", "branch", "rowptr", "rowptr_b"])
def test_a_table_without_rows(name: str) -> None:
    """Ids are the caller's promise, but there is none that such a table has, nor memory to read."""
    for operator, calls in OPERATORS.items():
        if (
            name not in arguments_of(operator) or "dropout" in operator or operator in ("gru_step", "pres_observe")
        ):  # no ids
            continue
        place = arguments_of(operator).index(name)
        arguments, low = list(calls[-1]), 0
        if name.startswith("rowptr"):  # a graph without nodes has no entries either
            low = 1
            arrays = [name.replace("rowptr", array) for array in ("col", "keep", "weight")]
            for k, other in enumerate(arguments_of(operator)):
                if other in arrays and arguments[k] is not None:
                    arguments[k] = arguments[k][:0]
        message = refused(operator, tuple(arguments), place, arguments[place].detach()[:low].contiguous())
        assert re.match(rf"{name} with at least \d+ in the first size, got \[{low}", message), message


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_sizes_of_products(transpose_a: bool, transpose_b: bool) -> None:
    a, b, bias = torch.ones(2, 3), torch.ones(3, 4), torch.ones(4)
    a, b = a.t().contiguous() if transpose_a else a, b.t().contiguous() if transpose_b else b
    arguments = (a, b, bias, transpose_a, transpose_b)
    wanted = "[*, 3]" if transpose_b else "[3, *]"
    short = b[:, :-1].contiguous() if transpose_b else b[:-1]
    message = f"b of shape {wanted}, got [{', '.join(map(str, short.shape))}]"
    assert refused("matmul", arguments, 1, short) == message
    assert refused("matmul", arguments, 2, bias[:-1]) == "bias of shape [4], got [3]"
    assert refused("matmul", arguments, 0, a[0]) == f"a of shape [*, *], got [{a.size(1)}]"


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_sizes_of_products_by_head(transpose_a: bool, transpose_b: bool) -> None:
    a, b = torch.ones(5, 2, 3), torch.ones(5, 3, 4)
    a, b = a.transpose(1, 2) if transpose_a else a, b.transpose(1, 2) if transpose_b else b
    arguments = (a, b, transpose_a, transpose_b, False)
    wanted = "[5, *, 3]" if transpose_b else "[5, 3, *]"
    for short in (b[1:], b[..., :-1] if transpose_b else b[:, :-1]):
        found = ", ".join(map(str, short.shape))
        assert refused("head_matmul", arguments, 1, short) == f"b of shape {wanted}, got [{found}]"
    assert refused("head_matmul", arguments, 0, a[0]).startswith("a of shape [*, *, *], got ")


def test_half_a_branch() -> None:
    arguments = OPERATORS["pair_head"][1]
    for place in (2, 3):
        assert refused("pair_head", arguments, place, None) == "both or neither of branch and place"


def test_no_features() -> None:
    """No columns at all are a valid shape."""
    for name in ("cn_gather_sum", "cn_gather_sum_backward", "segment_gather_sum", "pair_product"):
        arguments = list(OPERATORS[name][0])
        place = arguments_of(name).index("grad" if name.endswith("backward") else "x")
        arguments[place] = arguments[place].detach()[..., :0].contiguous()
        assert getattr(torch.ops.graphmem, name)(*arguments).size(-1) == 0
