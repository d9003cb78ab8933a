"""The C kernels: against NumPy and the scan, at sizes that take all paths, and what happens without them."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax import export
from signals import noise, relative_rms

from jaxapf import allpass
from jaxapf.filters import native, recursion

needs_kernels = pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.why_not()}")


@needs_kernels
@pytest.mark.parametrize("n_poles", [0, 1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_allpole_and_its_transpose(x64, n_poles, batch):
    a, x = noise(batch, 50, n_poles) / (2 * n_poles + 1), noise(batch, 50, seed=1)
    y = native.allpole(jnp.asarray(a), jnp.asarray(x))
    for row in range(batch):
        assert relative_rms(y[row], reference.allpole(a[row], x[row], np.zeros(n_poles))[0]) < 1e-14
    # <w, A x> = <A^T w, x>
    w = noise(batch, 50, seed=2)
    back = native.allpole_transpose(jnp.asarray(a), jnp.asarray(w))
    np.testing.assert_allclose(np.sum(w * y), np.sum(np.asarray(back) * x), rtol=1e-12)


@needs_kernels
@pytest.mark.parametrize("shape", [(5, 20000), (64, 1024), (1, 70000)])
def test_threads_share_the_rows(shape):
    a = (0.2 * noise(*shape, 2)).astype(np.float32)
    x = noise(*shape, seed=1).astype(np.float32)
    y, _ = recursion.allpole(a, x, method="native")
    expected, _ = recursion.allpole(a, x, method="scan")
    assert relative_rms(y, expected) < 1e-6


@needs_kernels
def test_batch_axes_broadcast(x64):
    a, x = 0.3 * noise(3, 1, 40, 2), noise(1, 4, 40, seed=1)
    y = native.allpole(jnp.asarray(a), jnp.asarray(x))
    constant = native.allpole(jnp.asarray(a[:, :, :1]), jnp.asarray(x))
    mapped = jax.vmap(jax.vmap(native.allpole, (None, 0)), (0, None))(jnp.asarray(a[:, 0]), jnp.asarray(x[0]))
    np.testing.assert_allclose(mapped, y, rtol=1e-14)
    for i in range(3):
        for j in range(4):
            for got, coefficients in ((y, a[i, 0]), (constant, a[i, 0, :1])):
                expected, _ = reference.allpole(coefficients, x[0, j], np.zeros(2))
                assert relative_rms(got[i, j], expected) < 1e-14


@needs_kernels
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7])
def test_ballistics_is_the_loop(x64, batch):
    x, start = noise(batch, 50), noise(1)
    rise, fall = np.full(batch, 0.3), 0.1 / (1 + np.arange(batch))
    y = native.ballistics(*map(jnp.asarray, (x, start, rise, fall)))
    for row in range(batch):
        last, expected = start[0], []
        for value in x[row]:
            last += (rise[row] if value > last else fall[row]) * (value - last)
            expected.append(last)
        np.testing.assert_allclose(y[row], expected, rtol=1e-13)
    assert native.ballistics(*map(jnp.asarray, (x[:, :0], start, rise, fall))).shape == (batch, 0)


@needs_kernels
@pytest.mark.parametrize("shape", [(5, 20000), (64, 1024), (1, 70000)])
def test_ballistics_shares_the_rows(shape):
    x = jnp.asarray(noise(*shape), jnp.float32)
    others = (jnp.zeros(shape[0], jnp.float32), jnp.float32([0.1]), jnp.float32([0.01]))
    y = native.ballistics(x, *others)
    alone = native.ballistics(x[-1:], others[0][:1], *others[1:])
    np.testing.assert_array_equal(y[-1:], alone)
    mapped = jax.vmap(native.ballistics, (0, 0, None, None))(x, others[0], others[1][0], others[2][0])
    np.testing.assert_array_equal(mapped, y)


@needs_kernels
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(0, 3, 4), (1, 1, 1), (255, 5, 7), (257, 32, 8), (9001, 8, 32), (5000, 33, 17), (300, 16, 48)]
)
def test_cross_is_a_product(x64, shape, dtype):
    n_rows, m, n = shape
    a, b = noise(n_rows, m).astype(dtype), noise(n_rows, n, seed=1).astype(dtype)
    got = native.cross(jnp.asarray(a), jnp.asarray(b))
    size = np.sqrt(max(n_rows, 1))  # of the sums; rounding adds up over a chunk of rows, then over chunks
    np.testing.assert_allclose(got, a.astype(float).T @ b, rtol=0, atol=30 * size * np.finfo(dtype).eps)
    stacked = jax.vmap(native.cross)(jnp.asarray([a, 2 * a]), jnp.asarray([b, b]))
    np.testing.assert_allclose(stacked[1], 2 * stacked[0], rtol=1e-5)


@needs_kernels
def test_kernels_flush_what_is_subnormal():
    # A tail that decays through the subnormal numbers ends at zero, as it does in XLA's own loops.
    x = np.zeros((8, 8192), np.float32)
    x[:, 0] = 1
    y, _ = recursion.allpole(np.array([-0.5]), x, method="native")
    y = np.asarray(y)
    assert np.all(np.isfinite(y))
    assert not np.any((y != 0) & (np.abs(y) < np.finfo(np.float32).tiny))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="x is complex64; method 'native' takes float32 and float64"):
        recursion.allpole(np.zeros(2), np.zeros(5, np.complex64), method="native")


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_get_plain_jax(platform):
    def loss(radius, a, x):
        y = allpass.cascade(allpass.second_order(radius, 900.0, 48000.0), x)
        return jnp.sum(recursion.allpole(a, y)[0] ** 2)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    arguments = jnp.array([0.9, 0.8]), jnp.zeros((2048, 2)), jnp.ones(2048)
    program = export.export(step, platforms=[platform])(*arguments).mlir_module()
    assert "jaxapf_" not in program
    assert "f64" not in program


def run_python(code, tmp_path, **environment):
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"} | environment
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)


REPORT = """
import numpy as np, jax, jax.numpy as jnp
from jaxapf import allpass, recursion
from jaxapf.filters import native
x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3000)), jnp.float32)
def loss(radius, x):
    return jnp.sum(allpass.cascade(allpass.second_order(radius, 900.0, 48000.0), x)[:, :999] ** 2)
gradient = jax.jit(jax.grad(loss))(jnp.array([0.9, 0.8]), x)
print(native.why_not())
print(float(recursion.allpole(jnp.array([-0.5, 0.2]), x)[0][1, -1]))
print(*gradient.tolist())
"""


def test_turned_off_the_same_is_computed_without_them(monkeypatch):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 300)), jnp.float32)
    a = jnp.array([-0.5, 0.2])
    expected = recursion.allpole(a, x)[0]
    monkeypatch.setenv("JAXAPF_NATIVE", "0")
    assert native.why_not() == "JAXAPF_NATIVE=0 turns the native kernels off."
    assert not native.usable(x)
    assert native.supports(x)
    assert not native.supports(x.astype(jnp.complex64))
    assert "jaxapf_" not in jax.jit(recursion.allpole).lower(a, x).as_text()
    np.testing.assert_allclose(recursion.allpole(a, x)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"JAXAPF_NATIVE": "0"}, "JAXAPF_NATIVE=0"),
        pytest.param({"CC": "no-such-compiler"}, "no C compiler"),
        pytest.param({"CC": "false"}, "building them failed: false: no output", marks=pytest.mark.slow),
        pytest.param({"JAXAPF_NATIVE": "off"}, "JAXAPF_NATIVE=off", marks=pytest.mark.slow),
    ],
)
def test_without_the_kernels_all_is_the_same(tmp_path, environment, reason):
    done = run_python(REPORT, tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    why, last, gradient = done.stdout.splitlines()
    assert reason in why
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3000)), jnp.float32)
    expected, _ = recursion.allpole(jnp.array([-0.5, 0.2]), x)
    assert float(last) == pytest.approx(float(expected[1, -1]), rel=1e-5)

    def loss(radius, x):
        return jnp.sum(allpass.cascade(allpass.second_order(radius, 900.0, 48000.0), x)[:, :999] ** 2)

    here = jax.jit(jax.grad(loss))(jnp.array([0.9, 0.8]), x)
    np.testing.assert_allclose([float(value) for value in gradient.split()], here, rtol=1e-3)


@needs_kernels
def test_a_folder_that_others_can_write_is_not_trusted(tmp_path):
    (tmp_path / "jaxapf").mkdir()
    (tmp_path / "jaxapf").chmod(0o777)
    done = run_python("from jaxapf.filters import native; print(native.why_not())", tmp_path)
    assert "can be written by other users" in done.stdout


@pytest.mark.slow
@needs_kernels
def test_built_once(tmp_path):
    code = "from jaxapf.filters import native; assert native.available()"
    assert run_python(code, tmp_path).returncode == 0
    (library,) = (tmp_path / "jaxapf").glob("*.so")
    before = library.stat().st_mtime_ns
    assert run_python(code, tmp_path).returncode == 0
    assert library.stat().st_mtime_ns == before
    # One that is damaged is built again; a compiler with arguments makes one of its own.
    whole = library.read_bytes()
    library.write_bytes(whole[:1000])
    assert run_python(code, tmp_path).returncode == 0
    assert library.stat().st_size == len(whole)
    assert run_python(code, tmp_path, CC="cc -O2").returncode == 0
    assert len(list((tmp_path / "jaxapf").glob("*.so"))) == 2
