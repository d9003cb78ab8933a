"""Training the aligner's network on pairs made on the fly; stops and goes on anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.drum_mics import config
from jaxapf import datasets
from jaxapf.alignment import cross_spectrum, features, network
from jaxapf.training import data, fit, logging, parallel
from jaxapf.training.checkpoint import Checkpoints
from jaxapf.training.step import init_state, make_train_step

MAX_DELAY = round(1e-3 * config.MAX_DELAY_MS * config.FS)


class Examples:
    """Give the features of pairs: a source for `data.prefetched`, whose items are dicts of arrays.

    To make a pair takes longer than to learn from it, so a batch holds new pairs and some of earlier batches,
    `config.LAG` steps ago and again as many; they are kept that long.
    """

    def __init__(self, pairs: datasets.Pairs, design: network.Design, batch: int) -> None:
        self.pairs, self.design, self.batch = pairs, design, batch
        self.new = max(1, batch // config.REUSE)
        self.features = lru_cache(maxsize=(config.REUSE * config.LAG + 16) * self.new)(self._features)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        step, slot = divmod(number, self.batch)
        turn, place = divmod(slot, self.new)
        # Before the first step lie pairs from the far end of the sequence.
        return self.features((step - turn * config.LAG) * self.new % len(self.pairs) + place)

    def _features(self, position: int) -> dict[str, np.ndarray]:
        pair = self.pairs[position]
        rng = np.random.default_rng([*self.pairs.words, position, 1])
        return example(pair.dry, pair.wet, self.design, config.CANDIDATES[self.design.kind], rng)


def example(
    dry: np.ndarray, wet: np.ndarray, design: network.Design, candidates: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The first candidate delay of a pair and some of the others, and the features at each."""
    cross = cross_spectrum.measure(dry, wet, config.FS, 0)
    delays = features.candidates(cross, MAX_DELAY)
    delays = np.append(delays[0], rng.choice(delays[1:], candidates - 1, replace=False))
    found_features = features.extract(cross, delays)
    found = {"cross": found_features.cross, "total": found_features.total}
    if design.kind == "waves":
        found["waves"] = np.stack(
            [features.waves(dry, wet, round(delay), design.n_samples) for delay in delays]
        )
    return found


def design_of(kind: str) -> network.Design:
    """The design of one of the two networks."""
    return network.Design(kind=kind, n_samples=config.N_SAMPLES)._replace(**config.DESIGNS[kind])


def trained(
    design: network.Design,
    folder: Path,
    steps: int,
    *,
    sources: Sequence[np.ndarray] = (),
    seed: int = config.SEED,
) -> network.Network:
    """Train a network for `steps`, going on where an earlier run in the folder was stopped.

    The folder keeps `checkpoints` and `metrics.jsonl`.
    """
    pairs = datasets.Pairs(config.N_SAMPLES, config.FS, key=seed, sources=sources)
    kind, net = design.kind, network.make_net(design)
    batch = config.BATCH[kind]
    loss = network.make_loss(design, features.extract(_cross(pairs[0]), [0.0]).omega, config.FS)
    optimizer = make_optimizer(steps)
    step = make_train_step(loss, optimizer, clip_norm=config.CLIP_NORM)
    length = features.BANDS if kind == "cross-phase" else design.n_samples
    weights = net.init(jax.random.key(seed), jnp.zeros((1, network.CHANNELS[kind], length)))
    state = init_state(weights, optimizer, key=jax.random.key(seed + 1))
    settings = {"design": design._asdict(), "steps": steps, "seed": seed, "sources": len(sources)}
    with Checkpoints(folder / "checkpoints", config=settings, keep_last=1, keep_best=0) as checkpoints:
        state = checkpoints.restore(state) or state
        done = fit.position(state)
        with logging.track(
            logging.progress(steps, start=done),
            logging.open_metrics(folder / "metrics.jsonl", after=done),
        ) as on_record:
            fitted = fit.fit(
                parallel.single(step),
                state,
                data.prefetched(Examples(pairs, design, batch), batch),
                steps,
                log_every=min(config.LOG_EVERY, steps),
                save_every=min(config.SAVE_EVERY, steps),
                checkpoints=checkpoints,
                on_record=on_record,
            )
    return network.Network(design, jax.tree.map(np.asarray, fitted.state.params))


def make_optimizer(steps: int) -> optax.GradientTransformation:
    """AdamW whose rate rises for a while and falls to a hundredth along a cosine."""
    warm_up = min(config.WARM_UP, steps // 5)
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.RATE, warm_up, steps, 0.01 * config.RATE)
    return optax.adamw(schedule, weight_decay=config.WEIGHT_DECAY)


def _cross(pair: datasets.SyntheticPair) -> cross_spectrum.CrossSpectrum:
    return cross_spectrum.measure(pair.dry, pair.wet, config.FS, 0)
