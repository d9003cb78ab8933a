"""align: wrong input is refused in one sentence that names it."""

import numpy as np
import pytest
from signals import noise

from jaxapf import align

FS = 16000


@pytest.mark.parametrize("name", ["dry", "wet"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_that_are_no_numbers(name, value, dtype):
    pair = {"dry": noise(2, 50).astype(dtype), "wet": noise(2, 50).astype(dtype)}
    pair[name][1, 17] = value
    with pytest.raises(ValueError, match=rf"^{name} holds NaN or infinite samples"):
        align(pair["dry"], pair["wet"], FS)


@pytest.mark.parametrize(
    ("dry", "wet"), [((5,), (6,)), ((2, 5), (5,)), ((2, 5), (1, 5)), ((2, 5), (3, 5)), ((5, 2), (2, 5))]
)
def test_shapes_that_differ(dry, wet):
    with pytest.raises(ValueError, match=r"dry has shape .* wet has shape .* expected equal shapes"):
        align(np.ones(dry), np.ones(wet), FS)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 5)])
def test_no_samples(shape):
    with pytest.raises(ValueError, match="at least one sample"):
        align(np.ones(shape), np.ones(shape), FS)


@pytest.mark.parametrize("x", [1.0, np.ones(3, complex), np.array(["a", "b"])])
def test_no_signal(x):
    with pytest.raises(ValueError, match=r"^dry (is|has) "):
        align(x, np.ones(3), FS)


def refused(error, name, **options):
    """The mistake is named in the first words, before any work is done."""
    x = noise(50)
    with pytest.raises(error, match=rf"^{name} .*(expected|choose)") as caught:
        align(x, x, options.pop("fs", FS), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", [0, -1, 33, 1000])
def test_orders_out_of_range(order):
    refused(ValueError, "order", order=order)


@pytest.mark.parametrize("order", [2.5, True, False, "seven", "7", None, float("nan"), float("inf"), [3], 2j])
def test_orders_that_are_no_whole_number(order):
    refused(TypeError, "order", order=order)


@pytest.mark.parametrize("method", ["", "Spectral", "newton", None, 3])
def test_unknown_methods(method):
    refused(ValueError, "method", method=method)


@pytest.mark.parametrize("max_delay_ms", [-1, -1e-9, np.nan, np.inf])
def test_delays_out_of_range(max_delay_ms):
    refused(ValueError, "max_delay_ms", max_delay_ms=max_delay_ms)


@pytest.mark.parametrize("fs", [0, -48000, np.nan, np.inf])
def test_sample_rates_out_of_range(fs):
    refused(ValueError, "fs", fs=fs)


@pytest.mark.parametrize(
    ("name", "value"), [("fs", "48000"), ("fs", None), ("max_delay_ms", "20"), ("max_delay_ms", None)]
)
def test_numbers_that_are_none(name, value):
    refused((TypeError, ValueError), name, **{name: value})


@pytest.mark.parametrize("key", [-1, "seed"])
def test_keys_that_are_none(key):
    refused((TypeError, ValueError), "key", key=key)
