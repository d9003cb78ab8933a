"""The style-transfer experiment: recordings and clips, scores, the rule-based baseline, tables and pages."""

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.signal
import soundfile

from jaxapf import datasets, params

pyloudnorm = pytest.importorskip("pyloudnorm")

from experiments.style_transfer import __main__ as command  # noqa: E402
from experiments.style_transfer import (  # noqa: E402
    baseline,
    config,
    data,
    evaluate,
    figures,
    pages,
    protocol,
    scores,
    tuning,
)

FS = 24_000
pytestmark = pytest.mark.usefixtures("loose_jax")


def bursts(seconds: float, seed: int = 0, period_s: float = 1.5) -> np.ndarray:
    """Noise that pauses for a third of each period."""
    n = round(seconds * FS)
    x = 0.1 * np.random.default_rng(seed).standard_normal(n)
    return (x * ((np.arange(n) / FS) % period_s < period_s * 2 / 3)).astype(np.float32)


def made_up(name: str, seconds: float = 4.0, kind: str = "speech", speaker: str = "") -> Any:
    return data.Source(name, kind, speaker or name, bursts(seconds, seed=len(name)))


# Recordings and splits


def test_named_split_keeps_speakers_apart_and_cuts_validation_from_long_ones():
    sources = [made_up("long", 20.0), made_up("short"), made_up("test")]
    sources.append(made_up("other", speaker="test"))
    split = data.split_named(sources, ["test"])
    assert [one.name for one in split.test] == ["test"]
    assert [one.name for one in split.train] == ["long", "short"]  # not "other", by the same speaker
    (held,) = split.validation
    whole = np.concatenate([split.train[0].audio, held.audio])
    np.testing.assert_array_equal(whole, sources[0].audio)
    assert len(held.audio) == round(data.HELD_S * FS)


def test_named_split_names_what_is_missing():
    with pytest.raises(ValueError, match=r"sources lack the test recordings b"):
        data.split_named([made_up("a")], ["b"])
    with pytest.raises(ValueError, match=r"nothing to train on"):
        data.split_named([made_up("a")], ["a"])


def test_speakers_are_in_one_part_each():
    sources = [made_up(f"{n}-{take}", 0.1, speaker=str(n)) for n in range(20) for take in range(2)]
    split = data.split_speakers(sources, key=3)
    sets = [{one.speaker for one in part} for part in split]
    assert [len(one) for one in sets] == [16, 2, 2]
    assert len(set.union(*sets)) == 20
    assert sum(map(len, split)) == 40
    assert {one.speaker for one in data.split_speakers(sources, key=4).test} != sets[2]
    with pytest.raises(ValueError, match=r"sources have 2 speakers; expected three or more"):
        data.split_speakers(sources[:4], key=0)


def write(path: Path, x: np.ndarray, fs: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, fs, subtype="PCM_24")


def test_shared_folder(tmp_path):
    for kind, names in (("speech", ("librivox_16k", "other")), ("loops", ("guitar_e_fifths", "b"))):
        for name in names:
            write(tmp_path / kind / f"{name}.flac", bursts(2.0), 16_000)
        listed = {f"{name}.flac": {} for name in names}
        if kind == "loops":
            listed["drum_breakbeat.flac"] = {}
            write(tmp_path / kind / "drum_breakbeat.flac", np.stack([bursts(2.0)] * 2, axis=-1), FS)
        (tmp_path / kind / f"{kind}.json").write_text(json.dumps(listed), encoding="utf-8")
    split = data.load(tmp_path)
    assert [one.name for one in split.train] == ["other", "b"]
    assert {one.name: one.kind for one in split.test} == {
        "librivox_16k": "speech",
        "drum_breakbeat": "loop",
        "guitar_e_fifths": "loop",
    }
    lengths = {one.name: len(one.audio) for one in split.test}
    assert lengths["drum_breakbeat"] == 2 * FS  # two channels became one
    assert lengths["librivox_16k"] == 3 * FS  # from 16 kHz
    (tmp_path / "loops" / "loops.json").write_text("[")
    with pytest.raises(ValueError, match=r"loops.json' cannot be read as a list of recordings"):
        data.load(tmp_path)


def test_libritts_folder(tmp_path):
    for speaker in ("14", "103", "7"):
        for number, seconds in enumerate((6.0, 1.0, 7.0, 8.0)):
            write(tmp_path / speaker / "208" / f"{speaker}_208_{number}.wav", bursts(seconds), FS)
    sources = datasets.libritts(tmp_path, seconds=10.0)
    assert [one.name for one in sources if one.speaker == "14"] == ["14_208_0", "14_208_2"]
    assert sorted({one.speaker for part in data.load(tmp_path) for one in part}) == ["103", "14", "7"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no SPEAKER/CHAPTER"):
        data.load(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"nowhere' cannot be read"):
        data.load(tmp_path / "nowhere")


def test_embedded_example_needs_no_folder():
    split = data.load()
    assert [one.name for one in split.train + split.test] == ["drums", "guitar"]
    assert data.fixed_clips(split.test, 5.0, 2, 0).halves.shape == (2, 2, 60_000)  # the loop goes on


# Clips


def test_halves_are_neighbours_without_silence():
    source = made_up("a", 6.0)
    drawn = data.clips(data.pool([source], 0.5), 20, key=1)
    for first, second in drawn.halves:
        # Each half has a gain of its own; the place is where the correlation is one.
        places = scipy.signal.correlate(source.audio, first, "valid")
        energy = scipy.signal.correlate(source.audio**2, np.ones(len(first), np.float32), "valid")
        found = places / np.sqrt(np.maximum(energy, 1e-6) * np.sum(first**2))
        start = int(np.argmax(found))
        assert found[start] == pytest.approx(1, abs=1e-4)
        after = source.audio[start + len(first) : start + 2 * len(first)]
        gain = np.sum(after * second) / np.sum(after**2)
        np.testing.assert_allclose(second, gain * after, rtol=0, atol=1e-5)
        level = np.sqrt(np.mean(source.audio**2))
        assert np.sqrt(np.mean(after**2)) > 0.1 * level


def test_clips_are_a_pure_function_of_the_key():
    pool = data.pool([made_up("a"), made_up("bb")], 0.5, data.TRAINING)
    one, same, other = (data.clips(pool, 8, (5, step), data.TRAINING) for step in (1, 1, 2))
    np.testing.assert_array_equal(one.halves, same.halves)
    assert one.names == same.names
    assert not np.array_equal(one.halves, other.halves)


def test_levels_are_those_asked_for():
    def levels(clips):
        return 10 * np.log10(np.mean(clips.halves.astype(np.float64) ** 2, axis=-1))

    source = made_up("a")
    np.testing.assert_allclose(levels(data.fixed_clips([source], 0.5, 6, 0)), -23, atol=1e-3)
    drawn = levels(data.clips(data.pool([source], 0.5), 200, 0, data.AS_IS._replace(low_db=-30, high_db=-19)))
    # Equal, but where the noise has a peak that would clip.
    assert np.mean(np.abs(drawn[:, 0] - drawn[:, 1]) < 1e-3) > 0.95
    assert -30.001 < drawn.min() < -29
    assert -20 < drawn.max() < -18.999
    click = np.zeros((1, 1000), np.float32)
    click[0, 3] = 0.5
    assert np.max(np.abs(data.levelled(click, -14.0))) == pytest.approx(data.PEAK)


def test_polarity_is_that_of_both_halves():
    source = made_up("a")
    pool = data.pool([source], 0.5)
    plain = data.clips(pool, 40, 0)
    flipped = data.clips(pool, 40, 0, data.AS_IS._replace(flip=0.5)).halves / plain.halves.clip(1e-9)
    signs = np.sign(np.nanmedian(np.where(plain.halves > 1e-3, flipped, np.nan), axis=-1))
    np.testing.assert_array_equal(signs[:, 0], signs[:, 1])
    assert 5 < np.sum(signs[:, 0] < 0) < 35


def test_speed_moves_frequencies():
    x = np.sin(2 * np.pi * 1000 * np.arange(2 * FS) / FS).astype(np.float32)
    pool = data.pool([data.Source("a", "loop", "a", x)], 0.5, data.AS_IS._replace(speeds=(0.8, 1.25)))
    peaks = [np.argmax(np.abs(np.fft.rfft(track.audio[:FS]))) for track in pool.tracks]
    assert peaks == [800, 1250]


def test_mixed_clips_hold_both_recordings():
    t = np.arange(2 * FS) / FS
    low, high = (0.1 * np.sin(2 * np.pi * f * t).astype(np.float32) for f in (500, 3000))
    pool = data.pool([data.Source("l", "loop", "l", low), data.Source("h", "loop", "h", high)], 0.5)
    spectra = np.abs(np.fft.rfft(data.clips(pool, 60, 0, data.AS_IS._replace(mix=0.5)).halves))
    both = np.minimum(spectra[..., 125], spectra[..., 750]) > 0.2 * np.maximum(
        spectra[..., 125], spectra[..., 750]
    )
    np.testing.assert_array_equal(both[:, 0], both[:, 1])
    assert 5 < np.sum(both[:, 0]) < 30  # a half of them, and of those half another recording


def test_tilt_is_the_shelf_of_its_formula():
    impulse = np.zeros((1, 2, 4000), np.float32)
    impulse[0, 0, 0] = 1
    y = data._tilted(impulse, np.array([6.0]), np.array([1000.0])).reshape(-1)
    response = 20 * np.log10(np.abs(np.fft.rfft(y.astype(np.float64))))
    r = 10 ** (3 / 20)
    for hz, found in zip(np.fft.rfftfreq(len(y), 1 / FS)[:-1:50], response[:-1:50], strict=True):
        s = 1j * math.tan(math.pi * hz / FS) / math.tan(math.pi * 1000 / FS)
        assert found == pytest.approx(20 * math.log10(abs((1 + s * r) / (1 + s / r) / r)), abs=1e-3)
    assert response[0] == pytest.approx(-3, abs=1e-3)
    assert response[-1] == pytest.approx(3, abs=1e-3)


def test_fixed_clips_take_the_recordings_in_turn():
    sources = [made_up(name) for name in ("a", "bb", "ccc")]
    names = data.fixed_clips(sources, 0.5, 9, 1).names
    assert sorted(names) == sorted(3 * ["a", "bb", "ccc"])
    with pytest.raises(ValueError, match=r"no recording with a clip of 50 s"):
        data.fixed_clips(sources, 50.0, 1, 1)


# Scores


def through(b: Any, a: Any, x: np.ndarray) -> np.ndarray:
    filtered: Any = scipy.signal.lfilter(b, a, x)  # whose type stub says a pair as well
    return filtered.astype(np.float32)


def pair(n: int = 2, length: int = 9000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    x = 0.1 * rng.standard_normal((n, length))
    return x.astype(np.float32), through([0.5, 0.3], [1, -0.4], x)


def test_mrstft_is_a_mean_of_clips():
    torch, auraloss = pytest.importorskip("torch"), pytest.importorskip("auraloss")
    pred, target = pair()
    loss = auraloss.freq.MultiResolutionSTFTLoss()
    expected = [
        float(loss(*(torch.tensor(x[None, None]) for x in one))) for one in zip(pred, target, strict=True)
    ]
    np.testing.assert_allclose(scores.scores(pred, target, FS).mrstft, expected, rtol=1e-4)


def test_mel_distance_is_that_of_a_loop():
    """Bands, frames and bins one by one; mel by its two formulas, not by their inverse on a grid."""
    pred, target = pair(1, 3001)

    def mel(f):
        return 3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    def hz(m):
        return 200 * m / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)

    def bands(x):
        n = len(x)
        window = scipy.signal.get_window("hann", n)
        edges = [hz(i * mel(FS / 2) / 129) for i in range(130)]
        rows = []
        for frame in range(2):
            mirrored = np.pad(x.astype(np.float64), n // 2, mode="reflect")[frame * n : frame * n + n]
            if len(mirrored) < n:
                continue
            size = np.sqrt(np.maximum(np.abs(np.fft.rfft(window * mirrored)) ** 2, 1e-8))
            row = []
            for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
                total = 0.0
                for k, s in enumerate(size):
                    f = k * FS / n
                    if low < f < high:
                        rise, fall = (f - low) / (middle - low), (high - f) / (high - middle)
                        total += s * min(rise, fall) * 2 / (high - low)
                row.append(total)
            rows.append(row)
        return np.array(rows)

    p, t = bands(pred[0]), bands(target[0])
    expected = np.mean(np.abs(np.log(p) - np.log(t))) + np.mean(np.abs(p - t))
    assert scores.mel_distance(pred, target, FS)[0] == pytest.approx(expected, rel=1e-6)


def test_centroids():
    t = np.arange(FS) / FS
    tone = np.sin(2 * np.pi * 3000 * t)
    assert scores.centroid_hz(tone[None, :], FS)[0] == pytest.approx(3000, rel=0.02)
    x = pair(1, 6000)[0][0].astype(np.float64)
    mirrored, found = np.pad(x, 1024, mode="reflect"), []
    for start in range(0, 6000 + 1, 512):
        size = np.abs(np.fft.rfft(scipy.signal.get_window("hann", 2048) * mirrored[start : start + 2048]))
        found.append(sum(k * FS / 2048 * s for k, s in enumerate(size)) / sum(size))
    assert scores.centroid_hz(x[None], FS)[0] == pytest.approx(np.mean(found), rel=1e-9)
    assert scores.centroid_hz(np.zeros((1, 6000)), FS)[0] == 0


def test_level_errors_are_decibels():
    pred, target = pair()
    louder = scores.scores(2 * target, target, FS)
    np.testing.assert_allclose(louder.rms_db, 20 * math.log10(2), rtol=1e-6)
    np.testing.assert_allclose(louder.lufs_db, 20 * math.log10(2), rtol=1e-5)
    assert scores.rms_db(np.zeros((1, 10))).tolist() == [-160.0]
    assert all(np.all(values == 0) for values in scores.scores(pred, pred, FS))


def test_loudness_is_that_of_the_standard():
    """A sine of 997 Hz at full scale in one channel is -3.01 LUFS; so is one shorter than a block."""
    tone = np.sin(2 * np.pi * 997 * np.arange(10 * FS) / FS)[None, :]
    assert scores.loudness_db(tone, FS)[0] == pytest.approx(-3.01, abs=0.1)
    own = pyloudnorm.Meter(FS).integrated_loudness(tone[0])
    assert scores.loudness_db(tone, FS)[0] == pytest.approx(own, abs=1e-9)
    assert scores.loudness_db(tone[:, :6360], FS)[0] == pytest.approx(own, abs=0.15)
    assert scores.loudness_db(np.zeros((1, 6360)), FS).tolist() == [-70.0]
    for n in (1001, 3337, 6359, 9599, 9600, 9601):  # around a block, and where rounding is unlucky
        assert scores.loudness_db(tone[:, :n], FS)[0] == pytest.approx(own, abs=1)


def test_control_errors_are_shares_of_the_range():
    spec = (params.Control("a", "dB", -20.0, 20.0), params.Control("b", "Hz", 10.0, 1000.0, "log"))
    errors = scores.control_errors([[-20.0, 10.0], [0.0, 100.0]], [[20.0, 100.0], [0.0, 100.0]], spec)
    np.testing.assert_allclose(errors, [0.5, 0.25], rtol=1e-12)


def test_scores_refuse_what_they_cannot_score():
    pred, target = pair()
    with pytest.raises(ValueError, match=r"pred has shape \(2, 9000\) and target \(1, 9000\)"):
        scores.scores(pred, target[:1], FS)
    pred[0, 3] = np.nan
    with pytest.raises(ValueError, match=r"pred holds NaN"):
        scores.scores(pred, target, FS)


# The rule-based baseline


def test_minimum_phase_of_a_one_pole_filter_is_its_impulse_response():
    w = np.linspace(0, np.pi, baseline.GRID // 2 + 1)
    gain_db = -20 * np.log10(np.abs(1 - 0.5 * np.exp(-1j * w)))
    np.testing.assert_allclose(baseline.minimum_phase(gain_db)[:30], 0.5 ** np.arange(30), atol=1e-9)


def test_baseline_leaves_equals_alone():
    x = np.stack([bursts(2.5, seed) for seed in range(2)])
    y = baseline.rule_based(x, x, FS)
    assert np.sum((y - x) ** 2) < 1e-8 * np.sum(x**2)


def test_baseline_finds_an_equaliser_by_ear():
    """Two stretches of noise, one through a shelf: the other gets its spectrum, its loudness and no delay."""
    rng = np.random.default_rng(0)
    x, other = 0.05 * rng.standard_normal((2, 1, 3 * FS))
    pole = math.exp(-2 * math.pi * 1000 / FS)
    reference, target = (through([1 - pole], [1, -pole], one) for one in (other, x))
    y = baseline.rule_based(x, reference, FS, baseline.PAPER)
    before = float(scores.mrstft(x.astype(np.float32), target)[0])
    after = float(scores.mrstft(y, target)[0])
    assert after < 0.25 * before
    np.testing.assert_allclose(scores.loudness_db(y, FS), scores.loudness_db(reference, FS), atol=1e-3)
    lag = np.argmax(scipy.signal.correlate(y[0], target[0])) - (len(x[0]) - 1)
    assert abs(lag) <= 1


def test_baseline_compresses_as_much_as_the_reference_is_denser():
    """Noise that swells slowly: the compressor evens it out, its peaks come down to the loudness."""
    rng = np.random.default_rng(1)
    envelope = np.sin(np.pi * np.arange(3 * FS) / FS) ** 8
    x, other = (envelope * 0.1 * np.sign(rng.standard_normal((2, 3 * FS)))).astype(np.float32)
    dense = (0.1 * np.sign(other)).astype(np.float32)
    spiky = 100 * other**3
    rule = baseline.PAPER._replace(share=0.0)

    def density(signal):
        return baseline._peak_over_loudness(signal[None], FS)[0]

    squeezed = baseline.rule_based(x[None], dense[None], FS, rule)[0]
    assert density(dense) < density(x) - 3
    assert density(squeezed) < density(x) - 1
    plain = baseline.rule_based(x[None], spiky[None], FS, rule)[0]  # nothing to do
    assert density(plain) == pytest.approx(density(x), abs=1e-3)
    with pytest.raises(ValueError, match=r"given has shape \(1, 10\) and reference \(2, 10\)"):
        baseline.rule_based(np.zeros((1, 10)), np.zeros((2, 10)), FS)


def test_baseline_survives_silence():
    x = bursts(0.5)[None]
    for given, reference in ((x, 0 * x), (0 * x, x)):
        assert np.isfinite(baseline.rule_based(given, reference, FS)).all()


def test_tuning_never_gets_worse(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "GRID", {"share": (0.5, 1.0)})
    x, other = (np.stack([bursts(0.375, seed), bursts(0.375, seed + 1)]) for seed in (0, 2))
    given, (target, reference) = x, (through([0.5], [1, -0.5], one) for one in (x, other))
    rule, best = tuning.tuned(given, target, reference)
    for share in (0.5, 1.0):
        made = baseline.rule_based(given, reference, FS, baseline.PAPER._replace(share=share))
        assert best <= float(np.mean(scores.mrstft(made, target))) + 1e-6
    assert rule.share in (0.5, 1.0)
    assert command.main(["tune", "--data", "/nowhere/at/all", "--folder", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_examples_share_their_settings():
    """Through the same effects: of a source that repeats itself, target and reference are alike."""
    x = np.tile(0.1 * np.random.default_rng(0).standard_normal(6000).astype(np.float32), 8)
    source = data.Source("a", "loop", "a", x)
    given, target, reference = tuning.examples([source], 0.5, 3, 1)
    assert np.all(np.mean((target - given) ** 2, axis=-1) > 1e-4 * np.mean(given**2, axis=-1))
    np.testing.assert_allclose(scores.rms_db(target), scores.rms_db(reference), atol=1.0)
    assert np.ptp(scores.rms_db(target)) > 0.5


# Tables


def some_scores(value: float) -> dict[str, float]:
    return {"mrstft": value, "msd": 2 * value, "sce_hz": 300 * value, "rms_db": value, "lufs_db": value}


def some_results(autodiff: float = 0.4, seeds: int = 3) -> dict:
    runs = {
        name: [
            {
                "seed": seed,
                "steps": 100,
                "seconds_per_step": 0.25,
                "minutes": 3.0,
                "scores": some_scores(value + 0.01 * seed),
                "controls": {"gain_db": 0.1, "q": 0.2},
            }
            for seed in range(seeds)
        ]
        for name, value in (("spsa", 0.6), ("autodiff", autodiff), ("fsm", 0.5), ("proxy", 0.7))
    }
    runs["proxy-hybrid"] = [dict(run, controls=None) for run in runs["proxy"]]
    length = {"test_clips": 8, "known": {}, "strategies": runs}
    length["known"] = {"unprocessed": some_scores(1.0), "rule-based": some_scores(0.8)}
    return {"made_with": "Made for a test.", "lengths": {"5": length}}


def test_goals_are_met_and_missed():
    def met(results):
        goals = evaluate.goals(results["lengths"]["5"], "5 s")
        return [goal["met"] for goal in [*goals, evaluate.seeded(results)]]

    assert met(some_results(0.4)) == [True, True, True]  # 0.41: 59 % and 49 % below
    assert met(some_results(0.45)) == [False, True, True]  # 0.46
    assert met(some_results(0.6)) == [False, False, True]
    assert met(some_results(0.4, seeds=2)) == [True, True, False]
    results = some_results()
    results["lengths"]["5"]["strategies"]["autodiff"] = []
    assert met(results) == [False, False, False]
    results = some_results(math.nan)
    assert met(results) == [False, False, True]
    assert "not known" in evaluate.markdown(results)["style-transfer"]


def test_tables_say_what_results_hold(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(some_results(0.6)), encoding="utf-8")
    text = "\n".join(evaluate.markdown(evaluate.read(path)).values())
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    methods = [row[0].removeprefix("| ") for row in rows]
    assert methods[2:9] == ["unprocessed", "rule-based", "autodiff", "fsm", "proxy", "proxy-hybrid", "spsa"]
    autodiff = rows[4]
    assert autodiff[1] == "0.610"
    assert autodiff[6:9] == ["0.150", "0.250", "0.600 0.610 0.620"]
    assert "**Missed**: 5 s: autodiff at least 55% below unprocessed (39% below)" in text
    assert "| gain_db | 0.100 | 0.100 | 0.100 | 0.100 |" in text
    assert "autodiff 100 in 3 min" in text


def test_results_that_are_none(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(ValueError, match=r"results.json' cannot be read as results"):
        evaluate.read(path)
    results = some_results()
    del results["lengths"]["5"]["known"]["unprocessed"]["msd"]
    path.write_text(json.dumps(results), encoding="utf-8")
    with pytest.raises(ValueError, match=r"lacks 'msd'"):
        evaluate.read(path)


# Pictures and pages


def test_drawing_has_a_dot_for_each_seed(tmp_path):
    figures.save_distances(some_results(), tmp_path / "d.svg")
    root = ElementTree.fromstring((tmp_path / "d.svg").read_text(encoding="utf-8"))
    classes = [one.get("class", "") for one in root.iter() if one.tag.endswith("path")]
    assert sum("dots" in one for one in classes) == 15
    assert sum("mean" in one for one in classes) == 5
    assert {"unprocessed", "rule-based", "spsa"} <= {one.text for one in root.iter() if one.text}


def some_clip() -> Any:
    x = bursts(0.5)
    versions = [
        pages.Version("input", x, 1.0),
        pages.Version("reference", 4 * x[::-1]),
        pages.Version("target", 0.1 * x, 0.0),
        pages.Version("<autodiff>", 0.2 * x, 0.5),
    ]
    freqs_hz = np.geomspace(30, 11e3, 50)
    curves = pages.Curves(freqs_hz, 0 * freqs_hz, {"<autodiff>": 3 + 0 * freqs_hz})
    return pages.Clip("One", "noise", versions, curves, {"true": {"q": 1.0}, "<autodiff>": {"q": 12345.0}})


def test_page_plays_all_versions_equally_loud(tmp_path):
    path = tmp_path / "page.html"
    pages.write(path, [some_clip()], FS)
    text = path.read_text(encoding="utf-8")
    assert "{{" not in text
    assert "<autodiff>" not in text
    assert re.findall(r'<tr class="best"><th scope="row">([^<]*)', text) == ["&lt;autodiff&gt;"]
    assert text.count(" data-same") == 3  # all but the reference
    sounds = [
        soundfile.read(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r"data:audio/flac;base64,([^\"]+)", text)
    ]
    levels = [20 * math.log10(np.sqrt(np.mean(x**2))) for x, _ in sounds]
    assert len(levels) == 4
    assert np.ptp(levels) < 0.05
    assert max(np.max(np.abs(x)) for x, _ in sounds) == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    assert {fs for _, fs in sounds} == {FS}
    for drawing in re.findall(r'<svg class="plot".*?</svg>', text, re.DOTALL):
        ElementTree.fromstring(drawing)
    assert "12345" in text


def test_page_refuses_what_cannot_be_played(tmp_path):
    path = tmp_path / "page.html"
    with pytest.raises(ValueError, match=r"clips is empty"):
        pages.write(path, [], FS)
    clip = some_clip()
    for bad, said in ((np.full(10, np.nan), "holds NaN"), (np.zeros((2, 3)), r"of shape \(2, 3\)")):
        broken = clip._replace(versions=[pages.Version("input", bad)])
        with pytest.raises(ValueError, match=said):
            pages.write(path, [broken], FS)
    assert not path.exists()


@pytest.mark.slow
def test_two_steps_and_a_report_by_the_embedded_example(tmp_path, monkeypatch, capsys):
    """Train, find it there, refuse another length; score it, and make the page."""
    monkeypatch.setattr(config, "READER_STEPS", 1)
    monkeypatch.setattr(config, "DESIGN", config.Design(channels=4, hidden=(8,)))
    monkeypatch.setattr(config, "BATCH", {0.53: 2, 5.0: 2})
    monkeypatch.setattr(config, "TEST_CLIPS", {0.53: 4})
    folder = tmp_path / "results"
    words = ["train", "--strategies", "spsa", "--seeds", "1", "--folder", str(folder)]
    assert command.main([*words, "--steps", "2"]) == 0
    course = json.loads((folder / "spsa-0.53s-0.json").read_text(encoding="utf-8"))
    assert (course["steps"], course["skipped"]) == (2, 0)
    assert math.isfinite(course["losses"]["2"])
    assert (folder / "spsa-0.53s-0.npz").is_file()
    assert command.main([*words, "--steps", "2"]) == 0  # there already
    assert command.main([*words, "--steps", "3"]) == 2
    assert "has 2 steps, not 3" in capsys.readouterr().err
    assert command.main(["report", "--folder", str(folder)]) == 0
    assert "| spsa |" in capsys.readouterr().out
    results = evaluate.read(folder / "results.json")
    assert results["lengths"]["0.53"]["known"]["true settings"]["mrstft"] < 1e-3
    assert (folder / "listening.html").read_text(encoding="utf-8").count("<audio") == 4 * 5


def test_rate_falls_and_begins_again(monkeypatch):
    monkeypatch.setattr(config, "CYCLE", 100)
    monkeypatch.setattr(config, "WARM_UP", 10)
    optimizer, weight = protocol.optimizer(180), np.ones(1, np.float32)
    state, moved = optimizer.init(weight), []
    for _ in range(180):
        update, state = optimizer.update(np.ones(1, np.float32), state, weight)
        moved.append(abs(float(np.asarray(update)[0])))
    assert np.argmax(moved[:100]) in range(8, 14)
    assert moved[99] < 0.01 * max(moved)
    assert 100 + np.argmax(moved[100:]) in range(108, 114)
    assert max(moved[100:]) < max(moved[:100])
