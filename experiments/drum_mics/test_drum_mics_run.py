"""The experiment's commands, small: train, stop, go on, measure."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.drum_mics import __main__ as command
from experiments.drum_mics import config, evaluate, known, train
from jaxapf import datasets
from jaxapf.alignment import network as aligner
from jaxapf.training import logging

FS = 44100

pytestmark = pytest.mark.usefixtures("loose_jax")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Short recordings, small networks, few steps."""
    monkeypatch.setattr(config, "N_SAMPLES", 2048)
    monkeypatch.setattr(config, "BATCH", {"cross-phase": 4, "waves": 2})
    small = {"width": 8, "heads": 2, "hidden": (16,)}
    monkeypatch.setattr(
        config, "DESIGNS", {"cross-phase": small | {"depth": 9}, "waves": small | {"depth": 4}}
    )
    monkeypatch.setattr(config, "LOG_EVERY", 2)
    monkeypatch.setattr(config, "SAVE_EVERY", 2)
    monkeypatch.setattr(config, "SLOW_PAIRS", 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cross-phase", "waves"])
def test_training_goes_on_where_it_was_stopped(tmp_path, kind, monkeypatch):
    whole = train.trained(train.design_of(kind), tmp_path / "whole", 6)
    seen = []

    def until_the_third(source, size):
        batch_at = batches(source, size)

        def stopped(position):
            seen.append(position)
            if len(seen) > 4 and position >= 4:
                raise KeyboardInterrupt
            return batch_at(position)

        return stopped

    batches = train.data.prefetched
    monkeypatch.setattr(train.data, "prefetched", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        train.trained(train.design_of(kind), tmp_path / "cut", 6)
    monkeypatch.setattr(train.data, "prefetched", batches)
    again = train.trained(train.design_of(kind), tmp_path / "cut", 6)
    for one, other in zip(jax.tree.leaves(whole.weights), jax.tree.leaves(again.weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    steps = [record["step"] for record in logging.read_metrics(tmp_path / "cut" / "metrics.jsonl")]
    assert steps == [2, 4, 6]


@pytest.mark.slow
def test_a_pair_is_seen_again_later():
    pairs = datasets.Pairs(256, FS, key=0)
    examples = train.Examples(pairs, train.design_of("cross-phase"), 8)
    late = config.LAG + 5
    new = [examples[late * 8 + slot]["cross"] for slot in range(2)]
    again = [examples[(late + config.LAG) * 8 + 2 + slot]["cross"] for slot in range(2)]
    np.testing.assert_array_equal(new, again)
    assert np.any(new[0] != examples[late * 8 + 2]["cross"])


@pytest.mark.slow
def test_a_short_training_of_what_is_shipped(tmp_path, capsys):
    assert command.main(["train", "--steps", "2", "--folder", str(tmp_path)]) == 0
    assert "after 2 steps" in capsys.readouterr().out
    records = logging.read_metrics(tmp_path / "cross-phase" / "metrics.jsonl")
    assert 0 < records[-1]["loss"] < 1
    assert aligner.load(tmp_path / "cross-phase" / "network.npz").design.kind == "cross-phase"


@pytest.mark.slow
def test_as_many_methods_as_a_picture_holds(tmp_path):
    """All of a full evaluation's, each with its own error."""
    names = ["a", *(getattr(evaluate, n) for n in ("WAVES", "NETWORK", "REFINED", "FIXED"))]
    values = {name: [1.0 + place, 2.0] for place, name in enumerate(names)}
    errors = {
        "freqs_hz": [100.0, 1000.0],
        "weighted_deg": values,
        "curves_deg": {name: {"p50": [1.0, 2.0], "p90": [3.0, 4.0]} for name in names},
        "empty": {"emptied_deg": values, "untouched_deg": values},
    }
    rows = [
        {"method": m, "pair": str(p), "kind": "near_far", "correlation": 0.1 * p}
        for m in ("GCC-PHAT, delay and polarity", "TCN, cross-spectrum")
        for p in range(3)
    ]
    command.draw(tmp_path, rows, errors, {})
    assert (tmp_path / "phase.svg").stat().st_size > 1000
    assert list(command.only(errors, ("a",))["empty"]["emptied_deg"]) == ["a"]


@pytest.mark.slow
def test_commands_train_and_measure(tmp_path, capsys):
    folder = str(tmp_path / "results")
    assert command.main(["train", "--steps", "2", "--folder", folder]) == 0
    network = aligner.load(tmp_path / "results" / "cross-phase" / "network.npz")
    assert network.design.width == 8
    arguments = ["evaluate", "--pairs", "2", "--known", "2", "--quick", "--folder", folder]
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    assert "| TCN, cross-spectrum |" in out
    assert "Goals met" in out
    document = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    methods = {row["method"] for row in document["rows"]}
    assert {"as is", "GCC-PHAT, delay and polarity", "TCN, cross-spectrum", "TCN, 50 steps more"} <= methods
    for name in ("loss.svg", "pairs.svg", "phase.svg", "listening.html", "evaluation.md"):
        assert (tmp_path / "results" / name).stat().st_size > 100
    # What the table says is what the signals say.
    rooms = datasets.Pairs(2048, FS, key=command.ROOMS_KEY, recipe=datasets.Recipe(room=1.0, filtered=0.0))
    dry, wet = (np.asarray(x, float) for x in rooms[0][:2])
    raw = next(row for row in document["rows"] if (row["method"], row["pair"]) == ("as is", "00"))
    assert raw["correlation"] == pytest.approx(dry @ wet / np.sqrt(dry @ dry * (wet @ wet)), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--data", "nowhere"], "nowhere"),
        (["evaluate", "--pairs", "1"], "holds no trained network; train one"),
        (["train", "--sources", "nowhere", "--steps", "1"], "--sources 'nowhere' holds no recordings"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_one_sentence(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(command.pretrained, "manifest", list)  # as before any network was stored
    assert command.main([*arguments, "--folder", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        (np.zeros(4000), "pair '00' is silent on one side"),
        (np.ones(1), "pair '00' has 1 samples; expected 2048 or more"),
    ],
)
@pytest.mark.slow
def test_pairs_that_cannot_be_measured(monkeypatch, signal, said):
    monkeypatch.setattr(evaluate.datasets, "read_pair", lambda pair: (signal, signal, FS))
    with pytest.raises(ValueError, match=said):
        evaluate.read([datasets.RecordedPair("00", "near", "snare", Path(), Path(), None, None)])
    with pytest.raises(ValueError, match="there are no pairs to measure"):
        evaluate.read([])


@pytest.mark.slow
def test_wrong_arguments_end_with_two():
    for arguments in (
        [],
        ["train", "--steps", "0"],
        ["train", "--seed", "-1"],
        ["train", "--kind", "smells"],
        ["evaluate", "--pairs", "x"],
    ):
        with pytest.raises(SystemExit) as end:
            command.main(arguments)
        assert end.value.code == 2


@pytest.mark.slow
def test_a_network_that_knows_nothing_is_not_helped():
    """What is measured is its own answer: random filters do not lie on the truth, as a delay alone would."""
    design = train.design_of("waves")
    shape = (1, 2, design.n_samples)
    weights = aligner.make_net(design).init(jax.random.key(0), np.zeros(shape, np.float32))
    x = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    found = evaluate.predicted(aligner.Network(design, weights))(x, x, FS)
    assert len(found.sections.u) == 6
    assert abs(float(x @ found.apply(x))) < 0.9 * float(x @ x)


@pytest.mark.slow
def test_known_phases_of_the_truth_are_no_error():
    (pair,) = known.known_pairs(1)

    class Truth:
        delay_samples, polarity = pair.delay_samples, pair.polarity
        sections = known.allpass.rbj(pair.cutoff_hz, pair.q, FS)

    class Late(Truth):
        delay_samples = pair.delay_samples + 1

    found = known.phase_errors({"truth": lambda *_: Truth, "late": lambda *_: Late}, 1, {})
    assert found["weighted_deg"]["truth"][0] < 1e-6
    freqs = np.asarray(found["freqs_hz"])
    inside = freqs < FS / 2
    expected = np.abs(np.angle(np.exp(-2j * np.pi * freqs / FS), deg=True))
    np.testing.assert_allclose(
        np.array(found["curves_deg"]["late"]["p50"])[inside], expected[inside], atol=1e-6
    )


@pytest.mark.slow
def test_an_emptied_octave_is_empty(monkeypatch):
    monkeypatch.setattr(config, "N_SAMPLES", 16384)
    (pair,) = known.known_pairs(1)
    dry, _ = known.emptied(pair, 1000.0, 1.0)
    before, after = (np.abs(np.fft.rfft(np.pad(x, (0, len(x))))) for x in (pair.dry, dry))
    freqs = np.fft.rfftfreq(2 * len(dry), 1 / FS)
    inside = (freqs > 800) & (freqs < 1250)
    outside = (freqs > 3000) & (freqs < 8000)
    assert np.sum(after[inside] ** 2) < 0.1 * np.sum(before[inside] ** 2)
    assert np.sum(after[outside] ** 2) == pytest.approx(np.sum(before[outside] ** 2), rel=0.2)


def test_smoke(tmp_path, capsys):
    """One step of a small network of the original's kind, kept and read again."""
    assert command.main(["train", "--kind", "waves", "--steps", "1", "--folder", str(tmp_path)]) == 0
    assert "after 1 steps" in capsys.readouterr().out
    assert aligner.load(tmp_path / "waves" / "network.npz").design.kind == "waves"
