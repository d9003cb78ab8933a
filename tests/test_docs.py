"""The documentation's sources: their code runs, and nothing is left out. `make docs` builds them."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxapf
from jaxapf import allpass, cli, frequency, losses, params
from jaxapf.effects import compressor, phaser
from jaxapf.filters import feedback, overlap_add, recursion

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = sorted(DOCS.glob("*.md"))


def blocks(language: str) -> list[tuple[str, str]]:
    found = [
        (page.stem, re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)) for page in WRITTEN
    ]
    return [(name, code) for name, codes in found for code in codes]


PYTHON = blocks("python")


@pytest.mark.parametrize(
    "code", [code for _, code in PYTHON], ids=[f"{p}{n}" for n, (p, _) in enumerate(PYTHON)]
)
def test_python_example_runs(code, tmp_path, monkeypatch, loose_jax):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs", "exec"), {"__name__": "docs"})


def test_there_are_examples_of_what_is_asked_most():
    pages = [page for page, _ in PYTHON]
    assert pages.count("faq") >= 4
    assert pages.count("researchers") >= 2
    assert "block_until_ready" in (DOCS / "faq.md").read_text()


def test_shell_examples_are_commands():
    lines = [line for _, block in blocks("sh") for line in block.splitlines() if line.startswith("jaxapf ")]
    inline = re.findall(
        r"`(jaxapf (?:align|apply|export|style|phaser fit) [^`]+)`", "".join(map(Path.read_text, WRITTEN))
    )
    assert len(lines) >= 2
    assert len(inline) >= 2
    for line in lines + inline:
        assert callable(cli.parse(line.split()[1:]).run), line


# The reference


@pytest.mark.parametrize("path", sorted((DOCS / "reference").glob("*.md")), ids=lambda path: path.stem)
def test_page_with_equations_shows_its_module(path):
    text = path.read_text()
    importlib.import_module(f"jaxapf.{path.stem}")
    assert text.startswith(f"# jaxapf.{path.stem} {{ #jaxapf.{path.stem} }}\n")
    assert f"\n::: jaxapf.{path.stem}\n" in text


def public_modules() -> list[str]:
    walked = pkgutil.walk_packages(jaxapf.__path__, "jaxapf.")
    names = [one.name for one in walked if not any(part.startswith("_") for part in one.name.split("."))]
    return [name for name in names if not name.startswith("jaxapf.cli.")]  # of which `jaxapf.cli` is public


@pytest.mark.parametrize("name", public_modules())
def test_public_module_lists_its_names(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for one in module.__all__:
        assert getattr(module, one) is not None


def test_what_the_documentation_names_is_there():
    text = "\n".join(path.read_text() for path in [*WRITTEN, ROOT / "README.md"])
    names = set(re.findall(r"`(jaxapf(?:\.\w+)+)`", text))
    assert len(names) >= 10
    for name in names:
        found = jaxapf
        for part in name.split(".")[1:]:
            found = getattr(found, part)


def test_modules_that_the_documentation_names_are_attributes_of_fresh_packages():
    """In a process that has imported the packages alone: another import would set the attributes too."""
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "checkpoints" / "README.md"]
    text = "\n".join(path.read_text() for path in pages)
    rooms = ("alignment", "effects", "filters", "training")
    named = {room: sorted(set(re.findall(rf"jaxapf\.{room}\.(\w+)", text))) for room in rooms}
    assert all(named.values())
    program = f"""
import importlib
packages = {{room: importlib.import_module("jaxapf." + room) for room in {rooms!r}}}
first = {{room: set(vars(package)) for room, package in packages.items()}}
for room, names in {named!r}.items():
    for name in names:
        if name not in first[room]:
            packages[room].__getattr__(name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rooms_at_the_top():
    found = (ROOT / "jaxapf").iterdir()
    rooms = [path for path in found if path.suffix == ".py" or (path / "__init__.py").exists()]
    entries = {path.name for path in rooms if not path.name.startswith("__")}
    assert len(entries) <= 16
    page = (DOCS / "architecture.md").read_text()
    assert [name for name in entries if f"`{name.removesuffix('.py')}`" not in page] == []


# What is included


def test_written_pages_are_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    assert [page.name for page in WRITTEN if page.name not in navigation] == []


def test_a_warning_fails_the_build():
    # MkDocs counts no warnings that it was told not to print.
    assert re.findall(r"\$\(MKDOCS\) build(.*)", (ROOT / "Makefile").read_text()) == [" --strict"]
    assert "make docs" in (ROOT / ".ci" / "run").read_text()


EXPERIMENTS = sorted((ROOT / "experiments").glob("*/README.md"))


@pytest.mark.parametrize("readme", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_readme_of_an_experiment_is_a_page_with_links_that_lead_somewhere(readme):
    text = re.sub(r"```.*?```", "", readme.read_text(), flags=re.DOTALL)
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 90
    assert readme.stat().st_size <= 6500
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [link for link in links if not (readme.parent / link).exists()] == []


def test_experiments_import_nothing_private():
    files = [path for path in (ROOT / "experiments").rglob("*.py") if not path.name.startswith("test_")]
    private = [path.name for path in files if re.search(r"(from|import) jaxapf(\.\w+)*\._", path.read_text())]
    assert private == []


# The equations as the pages print them, against the code

OMEGA = np.linspace(0.01, np.pi - 0.01, 50)
Z1 = np.exp(-1j * OMEGA)


def second_order(c, d, z1=Z1):
    return (c + d * z1 + z1**2) / (1 + d * z1 + c * z1**2)


def test_page_allpass():
    radius, cutoff_hz, fs, a = 0.8, 3000.0, 48000.0, 0.3
    c, d = radius**2, -2 * radius * np.cos(2 * np.pi * cutoff_hz / fs)
    warped = second_order(c, d, (a + Z1) / (1 + a * Z1))
    below = 1 + a * d + a**2 * c
    mapped = second_order((c + a * d + a**2) / below, (2 * a * (1 + c) + d * (1 + a**2)) / below)
    sections = allpass.second_order(radius, cutoff_hz, fs, warp=a)
    phase = allpass.phase_response(sections, OMEGA, 2 * np.pi)
    np.testing.assert_allclose(mapped, warped, atol=1e-12)
    np.testing.assert_allclose(np.exp(1j * phase), warped, atol=1e-12)
    u, v, m = (float(one[0]) for one in sections)
    sin2, cos2 = np.sin(OMEGA / 2) ** 2, np.cos(OMEGA / 2) ** 2
    size = np.abs(u * cos2 - v * sin2 + 2j * m * np.sqrt(sin2 * cos2)) ** 2
    delay = allpass.group_delay(sections, OMEGA, 2 * np.pi)
    np.testing.assert_allclose(delay, 2 * m * (u * cos2 + v * sin2) / size, rtol=1e-10)
    slope = -np.gradient(np.unwrap(np.angle(warped)), OMEGA)
    np.testing.assert_allclose(delay[5:-5], slope[5:-5], rtol=0.02)


def warped_equation_5(x, c, d, a, last):
    """The paper's difference equation, with `last` in place of the factor of v2."""
    y, v1, v2 = np.zeros_like(x), 0.0, 0.0
    for t, value in enumerate(x):
        y[t] = (value * (c + a * a + a * d) + v1) / (1 + a * a * c + a * d)
        w = value - c * y[t]
        v1, v2 = (
            value * (2 * a + d + a * c) + y[t] * (-2 * a * c - d - a) - a**3 * w + last * v2,
            w - (a * a * w + a * v2),
        )
    return y


def test_equation_5_is_an_all_pass_with_the_sign_of_the_page_and_not_as_printed():
    impulse = np.zeros(400)
    impulse[0] = 1.0
    c, d, a = 0.64, -1.2, 0.3
    gain = {
        name: np.abs(np.fft.rfft(warped_equation_5(impulse, c, d, a, last)))
        for name, last in (("page", 1 - a * a), ("printed", -(a * a + 1)))
    }
    assert np.abs(gain["page"] - 1).max() < 1e-6
    assert np.abs(gain["printed"] - 1).max() > 0.1


def test_page_recursion(x64):
    import jax

    rng = np.random.default_rng(0)
    a, x, g = 0.3 * rng.standard_normal((20, 2)), rng.standard_normal(20), rng.standard_normal(20)
    y, back = jax.vjp(lambda a, x: recursion.allpole(a, x)[0], a, x)
    w = np.zeros(22)
    for t in reversed(range(20)):
        w[t] = g[t] - sum(a[t + i, i - 1] * w[t + i] for i in (1, 2) if t + i < 20)
    of_a, of_x = back(g)
    past = np.stack([np.concatenate([np.zeros(i), np.asarray(y)[: 20 - i]]) for i in (1, 2)], axis=-1)
    np.testing.assert_allclose(of_x, w[:20], atol=1e-12)
    np.testing.assert_allclose(of_a, -w[:20, None] * past, atol=1e-12)


def test_page_feedback_and_phaser(x64):
    p, g0, g1, n = 0.4, 0.3, 0.2, 4
    impulse = np.zeros(2048)
    impulse[0] = 1.0
    found = np.fft.rfft(feedback.allpass_loop(np.array([p]), np.array([g0, g1]), impulse, stages=n)[0])
    z1 = np.exp(-1j * np.linspace(0, np.pi, 1025))
    chain = ((p - z1) / (1 - p * z1)) ** n
    np.testing.assert_allclose(found, chain / (1 - (g0 + g1 * z1) * chain), atol=1e-9)
    turned = np.angle(
        (p - np.exp(-1j * 2 * np.arctan((1 - p) / (1 + p))))
        / (1 - p * np.exp(-2j * np.arctan((1 - p) / (1 + p))))
    )
    assert abs(abs(turned) - np.pi / 2) < 1e-12
    np.testing.assert_allclose(
        phaser.cutoff_hz(p, 8000.0), 8000 / np.pi * np.arctan((1 - p) / (1 + p)), rtol=1e-9
    )


def test_page_compressor(x64):
    threshold, ratio, knee = -20.0, 4.0, 6.0
    controls = compressor.Controls(threshold, ratio, 1.0, 50.0, knee_db=knee)
    over = np.array([-10.0, -3.0, -1.0, 0.0, 2.0, 3.0, 12.0])
    bent = np.where(
        over <= -knee / 2, 0, np.where(over < knee / 2, (over + knee / 2) ** 2 / (2 * knee), over)
    )
    found = compressor.curve_db(threshold + over, controls)
    np.testing.assert_allclose(found, (1 / ratio - 1) * bent, atol=1e-12)


def test_page_frames():
    n, hop, window = 64, 4, 16
    t = np.arange(n)
    hann = [
        np.where(abs(t - k * hop) <= window / 2, np.cos(np.pi * (t - k * hop) / window) ** 2, 0)
        for k in range(-8, 30)
    ]
    weights = np.asarray(hann) / np.sum(hann, axis=0)
    gains = np.linspace(0.5, 2.0, 17)  # of the frames 0 to 16; beyond, the first and the last hold
    x = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    response = np.repeat(gains[:, None], 17, axis=1).astype(complex)
    found = overlap_add.filter_frames(response, x, n_fft=32, hop=hop, n_window=window)
    held = gains[np.clip(np.arange(-8, 30), 0, 16)]
    np.testing.assert_allclose(found, (held @ weights) * x, atol=1e-5)


def test_pages_losses_and_params(x64):
    rng = np.random.default_rng(0)
    pred, target = rng.standard_normal((2, 2048))
    resolution = losses.RESOLUTIONS[0]
    p, t = (np.asarray(frequency.stft(one, resolution)) for one in (pred, target))
    both = np.asarray(frequency.stft(pred + target, resolution))
    for power in (1, 2):
        bracket = abs(t) ** power + abs(p) ** power - abs(both) ** power
        found = losses.phase_sum_stft(pred, target, power=power, resolution=resolution)
        np.testing.assert_allclose(found, np.mean(bracket**2), rtol=1e-9)
    np.testing.assert_allclose(
        abs(t) ** 2 + abs(p) ** 2 - abs(both) ** 2, -2 * np.real(t * np.conj(p)), atol=1e-9
    )
    cosine = np.sum(np.real(p * np.conj(t))) / np.sum(abs(p) * abs(t))
    np.testing.assert_allclose(losses.phase(pred, target, resolution=resolution), 1 - cosine, rtol=1e-9)
    (middle,) = params.denormalise(np.array([0.5]), [params.CUTOFF_HZ_LOG])
    np.testing.assert_allclose(middle, np.sqrt(20 * 20e3) * (20e3 / 20) ** 0.25)
