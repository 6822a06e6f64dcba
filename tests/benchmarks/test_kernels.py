"""The count of a compiled program's kernels, on a program written by hand and on one that XLA compiled."""

import jax
import jax.numpy as jnp

from benchmarks.kernels import Loop, loops

PROGRAM = """\
HloModule jit_epoch, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused_add (param_0: f32[4]) -> f32[4] {
  %param_0 = f32[4]{0} parameter(0)
  ROOT %add.1 = f32[4]{0} add(%param_0, %param_0)
}

%inner (arg: (s32[], f32[4])) -> (s32[], f32[4]) {
  %arg = (s32[], /*index=1*/f32[4]{0}) parameter(0)
  %gte.1 = f32[4]{0} get-tuple-element(%arg), index=1
  %product = (f32[4]{0}, s8[32]{0}) custom-call(%gte.1), custom_call_target="__cublas$gemm"
  %fusion.1 = f32[4]{0} fusion(%gte.1), kind=kLoop, calls=%fused_add
  ROOT %tuple.1 = (s32[], f32[4]{0}) tuple(%gte.0, %fusion.1)
}

%outer (arg: (s32[], f32[4])) -> (s32[], f32[4]) {
  %arg.1 = (s32[], f32[4]{0}) parameter(0)
  %start = ((f32[4]{0}), f32[4]{0}) async-start(%arg.1), calls=%fused_add
  %while.1 = (s32[], f32[4]{0}) while(%arg.1), condition=%less, body=%inner, metadata={op_name="step/fit/while"}, \
backend_config={"known_trip_count":{"n":"50"},"known_init_step":{"init":"0","step":"1"}}
  %done = f32[4]{0} async-done(%start)
  ROOT %copy.1 = (s32[], f32[4]{0}) copy(%while.1)
}

ENTRY %main.9 (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %sort.1 = (f32[4]{0}, s32[4]{0}) sort(%x, %x), dimensions={0}, to_apply=%less
  %while.2 = (s32[], f32[4]{0}) while(%sort.1), condition=%less, body=%outer, metadata={op_name="step/while"}, \
backend_config={"known_trip_count":{"n":"7"}}
  ROOT %out = f32[4]{0} bitcast(%while.2)
}
"""


def test_kernels_of_a_program_written_by_hand():
    assert loops(PROGRAM) == [
        Loop("main", 1, 1),  # sort
        Loop("step/while", 7, 2),  # async, copy
        Loop("step/fit/while", 350, 2),  # product, fusion
    ]


def test_rounds_of_a_program_that_xla_compiled():
    def inner(x, _):
        return jnp.sin(x @ x), None

    def outer(x, _):
        return jax.lax.scan(inner, x + 1, length=5)[0], None

    compiled = jax.jit(lambda x: jax.lax.scan(outer, x, length=3)[0]).lower(jnp.ones((40, 40))).compile()
    found = loops(compiled.as_text())
    assert [one.rounds for one in found] == [1, 3, 15]
    assert found[2].kernels >= 2  # a product and a sine
