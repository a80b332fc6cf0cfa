"""Families of JAX's functions, gradients among them, give what JAX gives."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.driver.xla import PjrtDevice
from aino_ir.errors.stablehlo import StableHloVariant
from aino_ir.frontends.stablehlo import load_stablehlo
from aino_ir.interp import run_module
from tests.frontends.stablehlo.arguments import IMAGE, Lazily, normal, whole

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")


jax, jnp, lax, nn = (Lazily(n) for n in ("jax", "jax.numpy", "jax.lax", "jax.nn"))
linalg, fft, random = (Lazily(n) for n in ("jax.numpy.linalg", "jax.numpy.fft", "jax.random"))
special, scipy_linalg = Lazily("jax.scipy.special"), Lazily("jax.scipy.linalg")

Call = tuple[Callable[..., Any], tuple[Any, ...]]


def positive(*shape: int) -> Any:
    return np.abs(normal(*shape)) + np.float32(0.1)


def pool(x: Any, size: int, stride: int, padding: str) -> Any:
    sizes, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, sizes, strides, padding)


def network_loss(weights: Any, x: Any, labels: Any) -> Any:
    y = nn.relu(lax.conv_general_dilated(x, weights[0], (1, 1), "SAME", dimension_numbers=IMAGE))
    y = pool(y, 2, 2, "VALID")
    depthwise = {"dimension_numbers": IMAGE, "feature_group_count": 4}
    y = lax.conv_general_dilated(y, weights[1], (2, 2), "SAME", **depthwise)
    y = lax.reduce_window(y, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME") / 4
    scores = nn.log_softmax(y.mean((1, 2)) @ weights[2])
    return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))


def transformer_loss(weights: Any, x: Any) -> Any:
    q, k, v = (t.reshape(*t.shape[:-1], 2, 4) for t in jnp.split(x @ weights[0], 3, -1))
    h = x + nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape) @ weights[1]
    n = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)
    return (h + nn.gelu(n @ weights[2]) @ weights[3]).sum()


def recurrent_loss(w: Any, x: Any) -> Any:
    def step(carry: Any, now: Any) -> Any:
        h, s = carry
        i, f, g, o = jnp.split(jnp.concatenate([now, h], -1) @ w, 4, -1)
        s = nn.sigmoid(f) * s + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(s)
        return (h, s), h

    zero = jnp.zeros((2, 4))
    return lax.scan(step, (zero, zero), x)[1].sum()


def grouped_loss(w: Any, x: Any) -> Any:
    return jnp.sin(lax.conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=2)).sum()


def dilated_loss(w: Any, x: Any) -> Any:
    return jnp.sin(lax.conv_general_dilated(x, w, (2, 1), "SAME", rhs_dilation=(1, 2))).sum()


def transposed_loss(w: Any, x: Any) -> Any:
    return jnp.sin(lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=IMAGE)).sum()


def gradients() -> list[Call]:
    convolution = normal(3, 3, 3, 4) / 3, normal(3, 3, 1, 8) / 3, normal(8, 5)
    attention = tuple(normal(*s) / 3 for s in ((8, 24), (8, 8), (8, 16), (16, 8)))
    return [
        (jax.grad(network_loss), (convolution, normal(2, 8, 8, 3), whole(1, 3))),
        (jax.value_and_grad(transformer_loss), (attention, normal(2, 5, 8))),
        (jax.grad(recurrent_loss), (normal(7, 16) / 2, normal(5, 2, 3))),
        (jax.grad(lambda t, i: (t[i] ** 2).sum()), (normal(5, 4), whole(1, 1, 3))),
        (jax.grad(lambda x: jnp.sin((x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)).sum()), (normal(6, 3),)),
        (jax.grad(dilated_loss, (0, 1)), (normal(4, 3, 3, 3), normal(2, 3, 7, 6))),
        (jax.grad(transposed_loss, (0, 1)), (normal(3, 3, 2, 4), normal(1, 4, 5, 2))),
        (jax.grad(grouped_loss, (0, 1)), (normal(4, 2, 3, 3), normal(2, 4, 5, 5))),
        (jax.grad(lambda x: (pool(x, 3, 2, "SAME") ** 2).sum()), (normal(1, 7, 6, 2),)),
        (jax.grad(lambda x: (lax.top_k(x, 2)[0] ** 2).sum()), (normal(7),)),
        (jax.grad(lambda x: (jnp.cumprod(x) ** 2).sum()), (normal(5),)),
        (jax.hessian(lambda x: (jnp.sin(x) * x[::-1]).sum()), (normal(4),)),
        (jax.grad(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)).sum())), (normal(4),)),
    ]


def convolutions() -> list[Call]:
    batches = {"batch_group_count": 2}
    channels_last = ("NDHWC", "DHWIO", "NDHWC")
    strided = {"lhs_dilation": (2, 2)}
    return [
        (lambda x, w: lax.conv_general_dilated(x, w, (2,), [(1, 2)]), (normal(2, 3, 9), normal(4, 3, 3))),
        (
            lambda x, w: lax.conv_general_dilated(x, w, (1, 2, 1), "SAME", dimension_numbers=channels_last),
            (normal(1, 4, 5, 4, 2), normal(2, 3, 2, 2, 3)),
        ),
        (
            lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "VALID", **batches),
            (normal(4, 3, 5, 5), normal(4, 3, 2, 2)),
        ),
        (
            lambda x, w: lax.conv_general_dilated(x, w, (3, 2), [(1, 1), (1, 2)], **strided),
            (normal(1, 2, 5, 4), normal(3, 2, 2, 3)),
        ),
        (
            jax.vmap(lambda x, w: lax.conv_general_dilated(x[None], w, (1, 1), "SAME")),
            (normal(2, 3, 5, 5), normal(2, 4, 3, 3, 3)),
        ),
        (lambda x: lax.conv_general_dilated_patches(x, (2, 2), (1, 1), "VALID"), (normal(1, 2, 4, 4),)),
        (lambda x: jax.image.resize(x, (7, 9), "cubic"), (normal(4, 5),)),
    ]


def windows() -> list[Call]:
    def window(x: Any, start: Any, combine: Any, sizes: Any, padding: str = "SAME", **options: Any) -> Any:
        return lax.reduce_window(x, start, combine, sizes, (1,) * len(sizes), padding, **options)

    def smooth(a: Any, b: Any) -> Any:
        return jnp.logaddexp(a, b)

    running = [
        (lambda x, f=f, r=r: getattr(lax, f)(x, axis=1, reverse=r), (normal(3, 5),))
        for f in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
        for r in (False, True)
    ]
    return [
        *running,
        (lambda x: window(x, jnp.inf, lax.min, (2, 2), "VALID"), (normal(4, 5),)),
        (lambda x: window(x, 0, lax.add, (3,)), (whole(1, 2, 3, 4),)),
        (lambda x: window(x, 1.0, lax.mul, (2,)), (normal(5),)),
        (lambda x: window(x, 0.0, lax.add, (2,), base_dilation=(2,)), (normal(5),)),
        (lambda x: window(x, -jnp.inf, smooth, (3, 2)), (normal(4, 5),)),
        (lambda x: jnp.cumsum(x), (whole(1, 2, 3),)),
    ]


def factorizations() -> list[Call]:
    def definite(a: Any) -> Any:
        return a @ a.T + 5 * jnp.eye(a.shape[0])

    def triangular(a: Any, b: Any) -> Any:
        low = jnp.tril(a) + 3 * jnp.eye(4)
        solve = scipy_linalg.solve_triangular
        return solve(low, b, lower=True), solve(low, b, lower=True, trans=1), solve(low.T, b)

    square = normal(4, 4)
    return [
        (lambda a: linalg.cholesky(definite(a)), (square,)),
        (lambda a, b: linalg.solve(definite(a), b), (square, normal(4, 2))),
        (lambda a: (linalg.inv(definite(a)), linalg.det(a), *linalg.slogdet(a)), (square,)),
        (linalg.qr, (normal(5, 3),)),
        (lambda a: linalg.svd(a, full_matrices=False)[1], (normal(5, 3),)),
        (lambda a: linalg.svd(a, compute_uv=False), (normal(3, 5),)),
        (lambda a: linalg.eigh(definite(a))[0], (square,)),
        (triangular, (square, normal(4, 2))),
        (scipy_linalg.lu, (square,)),
        (lambda a, b: scipy_linalg.cho_solve(scipy_linalg.cho_factor(definite(a)), b), (square, normal(4))),
        (linalg.pinv, (normal(4, 3),)),
        (jax.grad(lambda a: linalg.cholesky(definite(a)).sum()), (square,)),
        (jax.vmap(lambda a: linalg.cholesky(definite(a))), (normal(2, 3, 3),)),
    ]


def fourier() -> list[Call]:
    def operator(x: Any, w: Any, v: Any) -> Any:
        low = fft.rfft(x, axis=1)[:, :3]
        return fft.irfft(jnp.einsum("bki,kio->bko", low, w + 1j * v), n=8, axis=1)

    return [
        (fft.fft, (normal(5),)),
        (lambda x: fft.ifft(fft.fft(x) * 2).real, (normal(3, 6),)),
        (
            lambda x: (jnp.abs(fft.rfft(x)), fft.irfft(fft.rfft(x)), fft.irfft(fft.rfft(x), 7)),
            (normal(3, 9),),
        ),
        (lambda x: (fft.fft2(x).real, fft.irfft2(fft.rfft2(x))), (normal(4, 6),)),
        (lambda x: fft.fft(fft.fft(x, axis=-1), axis=-2).real, (normal(2, 4, 6),)),
        (jax.grad(lambda x: (jnp.abs(fft.rfft(x)) ** 2).sum()), (normal(8),)),
        (operator, (normal(2, 8, 3), normal(3, 3, 4), normal(3, 3, 4))),
    ]


def complex_numbers() -> list[Call]:
    def arithmetic(a: Any, b: Any) -> Any:
        z = a + 1j * b
        return z * z.conj() / (z + 1), jnp.exp(z), jnp.abs(z), jnp.sqrt(z), jnp.log(z), -z, z**2.5

    def rotated(x: Any, angle: Any) -> Any:
        z = (x[..., 0] + 1j * x[..., 1]) * jnp.exp(1j * angle)
        return jnp.stack([z.real, z.imag], -1)

    def loop(z: Any) -> Any:
        return lax.fori_loop(0, 3, lambda i, c: c * z, z), lax.cond(z[0].real > 0, lambda: z, lambda: -z)

    numbers = (normal(3, 4) + 1j * normal(3, 4)).astype(np.complex64)
    return [
        (arithmetic, (normal(4), positive(4))),
        (lambda z: (z @ z.T, z.sum(), jnp.where(z.real > 0, z, 0), z[:, ::2], z == z[0]), (numbers,)),
        (rotated, (normal(3, 4, 2), normal(4))),
        (loop, (numbers[0],)),
    ]


def draws() -> list[Call]:
    def key() -> Any:
        return random.key(7)

    bits = np.array([0, 3], np.uint32)
    return [
        (lambda x: x + random.normal(key(), (5,)), (normal(5),)),
        (lambda x: random.bernoulli(key(), 0.3, (9,)) * x[0], (normal(5),)),
        (lambda x: random.categorical(key(), x), (normal(3, 6),)),
        (lambda x: random.permutation(key(), x), (normal(9),)),
        (lambda x: x * random.truncated_normal(key(), -2, 2, (5,)), (normal(5),)),
        (lambda x: x + random.gamma(key(), 2.0, (5,)), (normal(5),)),
        (
            lambda k: jnp.stack([random.uniform(q, (2,)) for q in random.split(random.wrap_key_data(k))]),
            (bits,),
        ),
        (lambda x: x @ random.orthogonal(key(), 4), (normal(2, 4),)),
    ]


def device_draws() -> list[Call]:
    """Bits of the device's own generator: Philox on processors."""
    words = np.array([3, 2**32 - 1, 2**32 - 1, 2**32 - 1], np.uint32)

    def normals(data: Any) -> Any:
        return random.normal(random.wrap_key_data(data, impl="rbg"), (5,))

    def bits(data: Any) -> Any:
        widths = ((np.uint8, (3,)), (np.uint16, (2, 5)), (np.uint32, (9,)), (np.uint32, (0,)))
        return [lax.rng_bit_generator(data, shape, dtype) for dtype, shape in widths]

    def split(data: Any) -> Any:
        keys = random.split(random.wrap_key_data(data, impl="unsafe_rbg"), 3)
        return random.key_data(keys), random.uniform(keys[1], (2, 3))

    return [(f, (words,)) for f in (normals, bits, split)]


def orders() -> list[Call]:
    numbers = whole(3, 1, 2, 1, 3, 0)
    bins = np.array([-1, 0, 1], np.float32)
    return [
        (lambda a, b: jnp.lexsort((a, b)), (numbers, whole(1, 1, 0, 0, 1, 0))),
        (lambda a, b: lax.sort((a, b), num_keys=2), (numbers, normal(6))),
        (lambda a, b, c: lax.sort((a, b, c), num_keys=2), (numbers, normal(6), numbers)),
        (lambda a: jnp.unique(a, size=5, return_inverse=True, return_counts=True), (numbers,)),
        (lambda a, b: jnp.searchsorted(jnp.sort(a), b), (normal(7), normal(3))),
        (lambda a: (jnp.digitize(a, bins), *jnp.histogram(a, bins=4)), (normal(9),)),
        (lambda a: jnp.bincount(a, length=5), (numbers,)),
        (lambda a: (jnp.percentile(a, 30.0, axis=1), jnp.nanmedian(a)), (normal(3, 7),)),
        (lambda a: jnp.nonzero(a > 0, size=5, fill_value=-1), (normal(7),)),
        (lambda a: (jnp.argsort(a > 0), jnp.sort(a, descending=True)), (normal(7),)),
        (lambda x: jnp.insert(x, 2, 9.0), (normal(5),)),
        *(
            (
                lambda x, i, n=n: getattr(jax.ops, f"segment_{n}")(x, i, 4),
                (normal(6, 2), whole(0, 2, 1, 2, 2, 3)),
            )
            for n in ("sum", "prod", "max", "min")
        ),
    ]


def control() -> list[Call]:
    branches = [lambda v: v + 1, lambda v: v * 2, lambda v: -v, lambda v: jnp.sin(v)]

    def pairs(a: Any, b: Any) -> Any:
        return a[0] * b[0], b[0] * a[1] + b[1]

    return [
        *((lambda i, x: lax.switch(i, branches, x), (np.int32(n), normal(3))) for n in (0, 1, 2, 3, 9, -1)),
        (lambda n, x: lax.fori_loop(0, n, lambda i, c: c + x[i], 0.0), (np.int32(3), normal(5))),
        (lambda a, b: lax.associative_scan(pairs, (nn.sigmoid(a), b))[1], (normal(5, 3), normal(5, 3))),
        (lambda x: lax.map(lambda v: jnp.sin(v).sum(), x), (normal(3, 4),)),
        (
            jax.vmap(lambda p, x: lax.cond(p, jnp.sin, jnp.cos, x)),
            (np.array([True, False]), normal(2)),
        ),
    ]


def functions() -> list[Call]:
    u = np.linspace(0.1, 0.9, 5, dtype=np.float32)
    one = "gammaln digamma erf erfinv erfc expit logit i0 i1 i1e entr ndtr ndtri log_ndtr".split()
    activations = "relu6 selu elu celu gelu glu hard_tanh leaky_relu log_sigmoid mish silu soft_sign softplus"
    return [
        *((getattr(special, n), (u,)) for n in one),
        *((getattr(special, n), (positive(5), u)) for n in ("xlogy", "gammainc", "gammaincc", "betaln")),
        (special.betainc, (positive(5), positive(5), u)),
        (lambda q: (special.zeta(q + 1.5, q), special.polygamma(1, q), special.polygamma(2, q)), (u,)),
        (lambda x: special.i1e(x), (np.array([-50, -29, 31, 400], np.float32),)),
        *((getattr(nn, n), (normal(3, 4),)) for n in activations.split()),
    ]


def bits() -> list[Call]:
    wide = np.array([-7, 5, 8, 0, -1], np.int32)
    edges = np.array([1e-30, -1e30, 1.0625, 0, np.inf, np.nan, 3.3], np.float32)
    return [
        (lambda a: (lax.population_count(a), lax.clz(a)), (wide,)),
        (lambda a: (lax.population_count(a), lax.clz(a)), (np.arange(-4, 4, dtype=np.int8),)),
        (lambda a: (a.view(jnp.uint8), a.view(jnp.int32)), (normal(4),)),
        (
            lambda a: lax.bitcast_convert_type(a, jnp.float32),
            (np.arange(8, dtype=np.uint8).reshape(2, 4),),
        ),
        (lambda a: (jnp.nextafter(a, a + 1), jnp.nextafter(a, -jnp.inf)), (edges,)),
        *(
            (lambda a, e=e, m=m: lax.reduce_precision(a, e, m), (edges,))
            for e, m in ((5, 3), (8, 7), (5, 10), (8, 23), (4, 3))
        ),
    ]


def reductions() -> list[Call]:
    def summed(a: Any, b: Any) -> Any:
        return a[0] + b[0], jnp.maximum(a[1], b[1])

    def pair(a: Any, b: Any) -> Any:
        return lax.reduce((a, b), (jnp.float32(0), jnp.float32(0)), summed, (1,))

    def ints(a: Any) -> Any:
        return jnp.bitwise_and.reduce(a), jnp.bitwise_or.reduce(a), jnp.bitwise_xor.reduce(a)

    return [
        (ints, (whole(7, 5, 13),)),
        (lambda a: lax.reduce(a, jnp.float32(1), lambda x, y: x * y + 0 * x, (0, 2)), (normal(4, 2, 5),)),
        (pair, (normal(3, 7), normal(3, 7))),
        (lambda x: (jnp.argmax(x, 0), jnp.argmin(x, 1)), (whole(3, 3, 1, 1).reshape(2, 2),)),
    ]


QUICK = (
    bits,
    complex_numbers,
    control,
    convolutions,
    device_draws,
    factorizations,
    fourier,
    orders,
    reductions,
    windows,
)
FAMILIES = [*QUICK, *(pytest.param(f, marks=pytest.mark.slow) for f in (draws, functions, gradients))]


def paired(array: Any) -> Any:
    """Complex numbers as pairs of real ones."""
    array = np.asarray(array)
    return np.stack([array.real, array.imag], -1) if np.iscomplexobj(array) else array


def agree(results: Any, wanted: Any) -> None:
    wanted = [paired(w) for w in jax.tree.leaves(wanted)]
    assert len(results) == len(wanted)
    for got, want in zip(results, wanted, strict=True):
        assert np.asarray(got).dtype == want.dtype
        np.testing.assert_allclose(np.float64(got), np.float64(want), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_functions_of_a_family_give_what_jax_gives(family: Callable[[], list[Call]]) -> None:
    for function, arguments in family():
        compiled = jax.jit(function, keep_unused=True)
        module = load_stablehlo(compiled.lower(*arguments))
        results = run_module(module, [paired(a) for a in jax.tree.leaves(arguments)])
        agree(results, compiled(*arguments))


@pytest.mark.slow
def test_a_gradient_of_a_network_as_c() -> None:
    function, arguments = gradients()[0]
    compiled = jax.jit(function, keep_unused=True)
    executable = aino.compile(compiled.lower(*arguments), "c", threads=1, strict=True)
    agree(executable.run(*map(np.asarray, jax.tree.leaves(arguments))), compiled(*arguments))


def test_long_lines_are_not_sorted_by_pairs() -> None:
    def strange(a: Any) -> Any:
        return lax.sort((a, -a), num_keys=1)

    text = jax.jit(strange).lower(normal(3000)).as_text()
    other = text.replace("compare  LT", "compare LT").replace("compare LT", "compare NE")
    assert other != text
    with pytest.raises(StableHloVariant, match="2048"):
        load_stablehlo(other)


def test_any_comparator_sorts() -> None:
    text = """module @m {
  func.func @main(%a: tensor<2x5xi32>) -> tensor<2x5xi32> {
    %0 = "stablehlo.sort"(%a) <{dimension = 1 : i64, is_stable = true}> ({
    ^bb0(%x: tensor<i32>, %y: tensor<i32>):
      %k = stablehlo.constant dense<3> : tensor<i32>
      %p = stablehlo.remainder %x, %k : tensor<i32>
      %q = stablehlo.remainder %y, %k : tensor<i32>
      %s = stablehlo.add %p, %q : tensor<i32>
      %t = stablehlo.add %q, %q : tensor<i32>
      %l = stablehlo.compare LT, %s, %t, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %l : tensor<i1>
    }) : (tensor<2x5xi32>) -> tensor<2x5xi32>
    return %0 : tensor<2x5xi32>
  }
}
"""
    (got,) = run_module(load_stablehlo(text), [whole(5, 3, 4, 2, 6, 1, 0, 2, 3, 7).reshape(2, 5)])
    assert got.tolist() == [[3, 6, 4, 5, 2], [0, 3, 1, 7, 2]]


@pytest.mark.parametrize("words", [2, 3])
def test_counters_of_random_bits_carry_over(words: int) -> None:
    text = f"""module @m {{
  func.func public @main(%a: tensor<{words}xui64>) -> (tensor<{words}xui64>, tensor<3x3xui64>) {{
    %s, %o = stablehlo.rng_bit_generator %a, algorithm = PHILOX
      : (tensor<{words}xui64>) -> (tensor<{words}xui64>, tensor<3x3xui64>)
    return %s, %o : tensor<{words}xui64>, tensor<3x3xui64>
  }}
}}
"""
    state = np.array([2**64 - 3, 2**64 - 1, 77][:words], np.uint64)
    results = run_module(load_stablehlo(text), [state])
    device = PjrtDevice("cpu")
    for got, want in zip(results, device.execute(device.compile(text), [device.put(state)]), strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(StableHloVariant, match="THREE_FRY"):
        load_stablehlo(text.replace("PHILOX", "THREE_FRY").replace("tensor<3xui64>", "tensor<2xui64>"))
