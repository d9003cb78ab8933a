"""Audio files: round trips, every kind of unusable input, atomic output; signals and segments."""

import os
import stat
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxapf import audio, datasets
from jaxapf.audio import level, reading, writing

RNG = np.random.default_rng(0)
LOSSLESS = [
    ("WAV", "PCM_U8", 8),
    ("WAV", "PCM_16", 16),
    ("WAV", "PCM_24", 24),
    ("WAV", "FLOAT", 32),
    ("FLAC", "PCM_S8", 8),
    ("FLAC", "PCM_16", 16),
    ("FLAC", "PCM_24", 24),
    ("AIFF", "PCM_16", 16),
    ("AIFF", "PCM_24", 24),
    ("AIFF", "FLOAT", 32),
]
SUFFIX = {"WAV": ".wav", "FLAC": ".flac", "AIFF": ".aiff", "OGG": ".ogg"}


def noise(n_channels=1, n_samples=4800):
    return (0.2 * RNG.standard_normal((n_channels, n_samples))).clip(-0.99, 0.99).astype(np.float32)


def representable(x, bits):
    return x if bits == 32 else (np.round(x * 2.0 ** (bits - 1)) / 2.0 ** (bits - 1)).astype(np.float32)


def only(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def run_python(code, *args):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
    )


# Round trips


@pytest.mark.parametrize(("file_format", "subtype", "bits"), LOSSLESS)
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_lossless_formats_return_the_same_samples(tmp_path, file_format, subtype, bits, n_channels):
    x = representable(noise(n_channels), bits)
    path = tmp_path / f"x{SUFFIX[file_format]}"
    audio.write(path, x, 44100, subtype=subtype)
    y, fs = audio.read(path)
    np.testing.assert_array_equal(y, x)
    assert (y.dtype, fs) == (np.float32, 44100)
    assert audio.info(path) == (str(path), 44100, 4800, n_channels, file_format, subtype)
    assert only(tmp_path) == [path.name]


@pytest.mark.parametrize("fs", [8000, 11025, 16000, 24000, 44100, 48000, 88200, 96000, 176400, 192000])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aif"])
def test_sample_rates(tmp_path, fs, suffix):
    path = tmp_path / f"x{suffix}"
    audio.write(path, noise(), fs)
    assert audio.info(path).fs == fs


def test_ogg_is_lossy_but_keeps_length_and_level(tmp_path):
    x = audio.log_sweep(1.0, 48000, high_hz=5000)
    audio.write(tmp_path / "x.ogg", x, 48000)
    y, fs = audio.read(tmp_path / "x.ogg")
    assert (y.shape, fs) == ((1, 48000), 48000)
    assert np.sum((y - x) ** 2) < 0.01 * np.sum(x**2)


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32"])
def test_telephone_codecs_are_read(tmp_path, subtype):
    x = audio.log_sweep(1.0, 8000, low_hz=200, high_hz=2000)
    audio.write(tmp_path / "x.wav", x, 8000, subtype=subtype)
    y, _ = audio.read(tmp_path / "x.wav")
    assert np.corrcoef(x, y[0, :8000])[0, 1] > 0.95
    with audio.open_reader(tmp_path / "x.wav") as reader:
        np.testing.assert_array_equal(reader.read(4000, 5000), y[:, 4000:5000])
        np.testing.assert_array_equal(reader.read(100, 200), y[:, 100:200])


def test_a_long_block_fits_into_ogg(tmp_path):
    audio.write(tmp_path / "x.ogg", np.zeros(2_000_000, np.float32), 48000)
    assert audio.info(tmp_path / "x.ogg").n_samples == 2_000_000


def test_double_keeps_float64(tmp_path):
    x = RNG.standard_normal(100)
    audio.write(tmp_path / "x.wav", x, 48000, subtype="DOUBLE")
    np.testing.assert_array_equal(sf.read(tmp_path / "x.wav")[0], x)


def test_float_is_exact_beyond_full_scale(tmp_path):
    x = np.array([1e-30, 3.5, -1e6, 1 + 2**-23], np.float32)
    audio.write(tmp_path / "x.wav", x, 48000)
    np.testing.assert_array_equal(audio.read(tmp_path / "x.wav")[0][0], x)
    assert audio.info(tmp_path / "x.wav").subtype == "FLOAT"


@pytest.mark.parametrize(("name", "subtype"), [("x.wav", "PCM_16"), ("x.flac", None)])
def test_clipping_is_a_warning(tmp_path, name, subtype):
    with pytest.warns(UserWarning, match=r"peak is 1\.5"):
        audio.write(tmp_path / name, np.array([0.1, -1.5], np.float32), 48000, subtype=subtype)
    assert audio.read(tmp_path / name)[0][0, 1] == -1.0


def test_read_a_part_and_pick_channels(tmp_path):
    x = noise(3)
    audio.write(tmp_path / "x.wav", x, 48000, subtype="FLOAT")
    y, _ = audio.read(tmp_path / "x.wav", start=100, stop=300, channels=(2, 0))
    np.testing.assert_array_equal(y, x[[2, 0], 100:300])
    with pytest.raises(ValueError, match="start and stop"):
        audio.read(tmp_path / "x.wav", start=10, stop=4801)
    with pytest.raises(audio.AudioError, match="3 channels, so there is no channel 4"):
        audio.read(tmp_path / "x.wav", channels=(3,))
    with pytest.raises(ValueError, match="at least one"):
        audio.read(tmp_path / "x.wav", channels=())


@settings(max_examples=20, deadline=None)
@given(block=st.integers(1, 700), n_samples=st.integers(1, 600))
def test_blocks_are_the_whole(tmp_path_factory, block, n_samples):
    path = tmp_path_factory.mktemp("blocks") / "x.flac"
    x = representable(noise(2, n_samples), 24)
    with audio.open_writer(path, 48000, 2) as writer:
        for start in range(0, n_samples, 97):
            writer.write(x[:, start : start + 97])
    assert writer.n_samples == n_samples
    assert writer.peak == np.max(np.abs(x))
    blocks = list(audio.read_blocks(path, block_samples=block))
    assert all(b.shape[-1] == block for b in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate(blocks, axis=-1), x)


def test_a_reader_reads_anywhere(tmp_path):
    x = representable(noise(1, 40000), 24)
    audio.write(tmp_path / "x.flac", x, 48000)
    with audio.open_reader(tmp_path / "x.flac") as reader:
        for start, stop in [(39000, 40000), (0, 10), (10, 20), (5, 5), (20000, 30000)]:
            np.testing.assert_array_equal(reader.read(start, stop), x[:, start:stop])


def test_names_that_are_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/na\xefve \xff.wav")
    try:
        Path(path).touch()
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    audio.write(path, noise(), 48000)
    assert audio.info(path).n_samples == 4800


# Unusable inputs


def nothing(path):
    pass


def folder(path):
    path.mkdir()


def empty(path):
    path.touch()


def text(path):
    path.write_text("This is no audio. " * 100)


def random_bytes(path):
    path.write_bytes(RNG.bytes(5000))


def half_a_header(path):
    audio.write(path.with_suffix(".tmp.wav"), noise(), 48000)
    path.write_bytes(path.with_suffix(".tmp.wav").read_bytes()[:20])


def no_samples(path):
    sf.write(path, np.zeros(0), 48000, format="WAV")


def pipe(path):
    os.mkfifo(path)


BAD = [
    (nothing, "does not exist"),
    (folder, "is a folder"),
    (empty, "is empty"),
    (text, "is not an audio file"),
    (random_bytes, "is not an audio file"),
    (half_a_header, "damaged or cut short"),
    (no_samples, "holds no samples"),
]
if hasattr(os, "mkfifo"):
    BAD.append((pipe, "device or pipe"))


@pytest.mark.parametrize(("make", "message"), BAD, ids=[make.__name__ for make, _ in BAD])
@pytest.mark.parametrize("function", [audio.info, audio.read])
def test_unusable_files(tmp_path, make, message, function):
    path = tmp_path / "in.wav"
    make(path)
    with pytest.raises(audio.AudioError, match=message) as caught:
        function(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_of_raw_samples(tmp_path):
    (tmp_path / "x.raw").write_bytes(bytes(1000))
    with pytest.raises(audio.AudioError, match="not an audio file"):
        audio.info(tmp_path / "x.raw")


def test_an_impossible_name():
    with pytest.raises(audio.AudioError, match="cannot be opened"):
        audio.info("a\0b.wav")
    with pytest.raises(audio.AudioError, match="cannot be opened"):
        audio.info("x" * 5000)


@pytest.mark.parametrize("fraction", [0.3, 0.9, 0.999])
@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [(".wav", "PCM_16"), (".wav", "FLOAT"), (".aiff", "PCM_24"), (".flac", "PCM_24"), (".ogg", "VORBIS")],
)
def test_truncated_files(tmp_path, suffix, subtype, fraction):
    path = tmp_path / f"x{suffix}"
    audio.write(path, noise(2, 96000), 48000, subtype=subtype)
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    with pytest.raises(audio.AudioError, match=r"cut short|no samples"):
        audio.info(path)


def test_truncated_rf64(tmp_path):
    sf.write(tmp_path / "x.wav", noise()[0], 48000, format="RF64", subtype="PCM_24")
    data = (tmp_path / "x.wav").read_bytes()
    assert audio.info(tmp_path / "x.wav").n_samples == 4800
    (tmp_path / "x.wav").write_bytes(data[:-3])
    with pytest.raises(audio.AudioError, match="cut short"):
        audio.info(tmp_path / "x.wav")


@pytest.mark.parametrize("size", [2**32 - 1, 2**31 - 1, 2**32 - 44])
def test_wav_written_to_a_pipe_has_no_length_and_is_read(tmp_path, size):
    path = tmp_path / "x.wav"
    audio.write(path, noise(), 48000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = struct.pack("<I", 2**32 - 1)
    data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    assert audio.read(path)[0].shape == (1, 4800)


def test_chunks_before_and_after_the_samples(tmp_path):
    path = tmp_path / "x.wav"
    audio.write(path, representable(noise(1, 101), 8), 48000, subtype="PCM_U8")
    data = path.read_bytes()
    odd = b"junk" + struct.pack("<I", 5) + b"12345\0"
    path.write_bytes(data[:12] + odd + data[12:] + odd)
    assert audio.info(path).n_samples == 101


def test_damage_inside_a_flac_is_found_by_reading(tmp_path):
    path = tmp_path / "x.flac"
    audio.write(path, noise(1, 96000), 48000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 5000] = bytes(5000)
    path.write_bytes(data)
    with pytest.raises(audio.AudioError, match="damaged or cut short"):
        list(audio.read_blocks(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    x = noise(2)
    x[1, 4321] = value
    sf.write(tmp_path / "x.wav", x.T, 48000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match=r"at sample 4321 of channel 2"):
        audio.read(tmp_path / "x.wav")
    with pytest.raises(audio.AudioError, match=r"at sample 4321 of channel 2"):
        list(audio.read_blocks(tmp_path / "x.wav", block_samples=1000, channels=(1,)))
    assert audio.read(tmp_path / "x.wav", channels=(0,))[0].shape == (1, 4800)


# Output


def test_refused_outputs_leave_nothing(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    x = noise()
    cases = [
        ("x.mp3", {}, "suffix '.mp3'"),
        ("x", {}, "no suffix"),
        ("missing/x.wav", {}, "the folder does not exist"),
        ("folder.wav", {}, "is a folder"),
        ("x.flac", {"subtype": "FLOAT"}, "FLAC has no subtype 'FLOAT'"),
        ("x.wav", {"subtype": "nonsense"}, "WAV has no subtype 'nonsense'"),
    ]
    for name, options, message in cases:
        with pytest.raises(audio.AudioError, match=message):
            audio.write(tmp_path / name, x, 48000, **options)
    with pytest.raises(audio.AudioError, match="cannot hold 9 channel"):
        audio.write(tmp_path / "x.flac", noise(9), 48000)
    with pytest.raises(audio.AudioError, match="NaN or infinite"):
        audio.write(tmp_path / "x.wav", np.array([0, np.nan], np.float32), 48000)
    with pytest.raises(TypeError, match="float32 or float64"):
        audio.write(tmp_path / "x.wav", np.arange(5), 48000)
    with pytest.raises(ValueError, match="fs must be"):
        audio.write(tmp_path / "x.wav", x, 44100.5)  # type: ignore[arg-type]
    for shape in [(0,), (1, 2, 3), ()]:
        with pytest.raises(ValueError, match="x must be"):
            audio.write(tmp_path / "x.wav", np.zeros(shape), 48000)
    assert only(tmp_path) == ["folder.wav"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_devices_and_kernel_folders_are_no_outputs():
    with pytest.raises(audio.AudioError, match="device or pipe"):
        audio.check_writable("/dev/full")
    with pytest.raises(audio.AudioError, match="cannot be written"):
        audio.check_writable("/proc/x.wav")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(audio.AudioError, match="permission denied"):
        audio.check_writable(tmp_path / "x.wav")
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_unfinished_file_disappears_and_the_old_one_stays(tmp_path, error):
    path = tmp_path / "x.wav"
    path.write_bytes(b"old")

    def stop_halfway():
        with audio.open_writer(path, 48000, 1) as writer:
            writer.write(noise())
            raise error

    with pytest.raises(error):
        stop_halfway()
    assert path.read_bytes() == b"old"
    assert only(tmp_path) == ["x.wav"]


def test_an_output_without_samples_is_refused(tmp_path):
    with pytest.raises(audio.AudioError, match="no samples"), audio.open_writer(tmp_path / "x.wav", 48000, 1):
        pass
    assert only(tmp_path) == []


def test_nothing_is_seen_before_the_end(tmp_path):
    path = tmp_path / "x.wav"
    with audio.open_writer(path, 48000, 1) as writer:
        writer.write(noise())
        assert not path.exists()
    assert path.exists()


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and links")
def test_permissions_and_links_are_respected(tmp_path):
    new, private, link = tmp_path / "new.wav", tmp_path / "private.wav", tmp_path / "link.wav"
    old_mask = os.umask(0o027)
    try:
        audio.write(new, noise(), 48000)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    private.touch(mode=0o600)
    link.symlink_to(private)
    audio.write(link, noise(), 48000)
    assert link.is_symlink()
    assert audio.info(private).n_samples == 4800
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


LIMITED = """
import resource, signal, sys
import numpy as np
from jaxapf import audio
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    if sys.argv[1].endswith(".txt"):
        audio.write_text(sys.argv[1], "x" * 200000)
    else:
        audio.write(sys.argv[1], 0.1 * np.random.default_rng(0).standard_normal((2, 100000)), 48000)
except audio.AudioError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
@pytest.mark.parametrize(
    ("name", "limit"),
    [("x.wav", 100000), ("x.flac", 100000), ("x.ogg", 5000), ("x.txt", 100000), ("x.wav", 10)],
)
def test_no_room_on_the_disk(tmp_path, name, limit):
    path = tmp_path / name
    done = run_python(LIMITED, path, limit)
    assert "was not written: file too large" in done.stdout
    assert (done.stdout.count("\n"), done.stderr, done.returncode) == (1, "", 0)
    assert only(tmp_path) == []


def test_more_than_4_gib_becomes_rf64_or_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_MAX_32BIT_BYTES", 20000)
    x = noise(1, 10000)
    audio.write(tmp_path / "x.wav", x, 48000, subtype="FLOAT")
    assert audio.info(tmp_path / "x.wav").format == "RF64"
    np.testing.assert_array_equal(audio.read(tmp_path / "x.wav")[0], x)
    with pytest.raises(audio.AudioError, match="4 GiB"):
        audio.write(tmp_path / "x.aiff", x, 48000)
    with (
        pytest.raises(audio.AudioError, match="4 GiB"),
        audio.open_writer(tmp_path / "y.wav", 48000, 1) as writer,
    ):
        writer.write(x)
    assert only(tmp_path) == ["x.wav"]


def test_subtypes():
    assert audio.output_subtype("x.wav", "pcm_16") == "PCM_16"
    assert audio.output_subtype("x.wav", prefer="FLOAT") == "FLOAT"
    assert audio.output_subtype("x.flac", prefer="FLOAT") == "PCM_24"
    assert audio.output_subtype("x.ogg", prefer="PCM_16") == "VORBIS"
    assert audio.output_format("X.AIFF") == "AIFF"


# Signals


@pytest.mark.parametrize(
    ("fs_from", "fs_to"), [(44100, 48000), (48000, 44100), (192000, 48000), (8000, 192000)]
)
def test_resampling_keeps_a_sine(fs_from, fs_to):
    t = np.arange(fs_from // 4) / fs_from
    x = np.stack([np.sin(2 * np.pi * 1000 * t), np.cos(2 * np.pi * 300 * t)]).astype(np.float32)
    y = audio.resample(x[None], fs_from, fs_to)[0]
    t = np.arange(y.shape[-1]) / fs_to
    expected = np.stack([np.sin(2 * np.pi * 1000 * t), np.cos(2 * np.pi * 300 * t)])
    inner = slice(fs_to // 20, -fs_to // 20)
    assert y.dtype == np.float32
    assert abs(y.shape[-1] - fs_to // 4) <= 1
    assert np.max(np.abs(y - expected)[:, inner]) < 1e-5


def test_resampling_to_the_same_rate_changes_nothing():
    x = noise()
    assert audio.resample(x, 48000, 48000) is x
    with pytest.raises(ValueError, match="fs_from and fs_to"):
        audio.resample(x, 48000, 0)


def test_a_file_is_resampled_as_an_array_is(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_SAMPLES", 7001)
    x = 3 * noise(2, 50000)
    audio.write(tmp_path / "x.wav", x, 44100, subtype="FLOAT")
    audio.resample_file(tmp_path / "x.wav", tmp_path / "y.wav", 48000, channels=(1,))
    y, fs = audio.read(tmp_path / "y.wav")
    assert fs == 48000
    np.testing.assert_allclose(y, audio.resample(x[1:], 44100, 48000), atol=1e-6)


def test_sweep_has_the_frequencies_at_their_time():
    fs, duration_s = 48000, 2.0
    x = audio.log_sweep(duration_s, fs, low_hz=100, high_hz=10000, amplitude=0.25)
    assert x.dtype == np.float64
    assert x.shape == (96000,)
    assert 0.2499 < np.max(np.abs(x)) <= 0.25
    for at_s in (0.5, 1.0, 1.5):
        inner = x[int(at_s * fs) - 400 : int(at_s * fs) + 401]
        crossings = np.flatnonzero(np.diff(np.signbit(inner)))
        frequency_hz = (len(crossings) - 1) / 2 / ((crossings[-1] - crossings[0]) / fs)
        assert frequency_hz == pytest.approx(100 * 100 ** (at_s / duration_s), rel=0.05)


def test_sweep_refuses_impossible_frequencies():
    with pytest.raises(ValueError, match="low_hz < high_hz"):
        audio.log_sweep(1.0, 8000)
    with pytest.raises(ValueError, match="duration_s"):
        audio.log_sweep(0.0, 48000)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 50), hop=st.integers(1, 60), n_samples=st.integers(50, 120))
def test_segments_are_slices(length, hop, n_samples):
    x = RNG.standard_normal((2, n_samples))
    segments = audio.segment(x, length, hop=hop)
    starts = range(0, n_samples - length + 1, hop)
    assert segments.shape == (len(starts), 2, length)
    for one, start in zip(segments, starts, strict=True):
        np.testing.assert_array_equal(one, x[:, start : start + length])


def test_segments_of_a_jax_array_and_mistakes():
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(10.0)
    assert isinstance(audio.segment(x, 5), jax.Array)
    np.testing.assert_array_equal(audio.segment(x, 5), np.arange(10.0).reshape(2, 5))
    with pytest.raises(ValueError, match="length"):
        audio.segment(x, 11)
    with pytest.raises(ValueError, match="hop"):
        audio.segment(x, 5, hop=0)


def test_informative_segments_are_loud_broad_and_different(tmp_path):
    fs = 8000
    t = np.arange(2 * fs) / fs
    hum = 0.5 * np.sin(2 * np.pi * 100 * t)
    low = np.convolve(RNG.standard_normal(2 * fs), np.ones(20) / 20, "same")
    high = np.diff(RNG.standard_normal(2 * fs + 1)) * 0.2
    parts = [hum, np.zeros(2 * fs), low, hum, 1e-4 * high, high, np.zeros(2 * fs)]
    x = np.concatenate(parts)
    audio.write(tmp_path / "dry.wav", x, fs, subtype="FLOAT")
    audio.write(tmp_path / "wet.wav", -0.5 * x, fs, subtype="FLOAT")
    chosen = audio.informative_segments(
        tmp_path / "dry.wav", tmp_path / "wet.wav", len(x), fs, length=2 * fs, count=2
    )
    assert chosen == [(4 * fs, 6 * fs), (10 * fs, 12 * fs)]


def test_informative_segments_want_both_files_to_sound(tmp_path):
    fs = 8000
    x = RNG.standard_normal(6 * fs) * 0.1
    wet = x.copy()
    wet[: 4 * fs] = 0
    audio.write(tmp_path / "dry.wav", x, fs)
    audio.write(tmp_path / "wet.wav", wet, fs)
    paths = tmp_path / "dry.wav", tmp_path / "wet.wav"
    assert audio.informative_segments(*paths, 6 * fs, fs, (0,), length=2 * fs, count=1) == [(4 * fs, 6 * fs)]


def test_informative_segments_find_errors_anywhere(tmp_path):
    x = np.full(20500, 0.1)
    audio.write(tmp_path / "x.wav", x, 8000, subtype="FLOAT")
    x[-1] = np.nan
    sf.write(tmp_path / "y.wav", x, 8000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match="sample 20499"):
        audio.informative_segments(tmp_path / "x.wav", tmp_path / "y.wav", len(x), 8000, length=8000)


def test_informative_segments_of_little_or_nothing(tmp_path):
    audio.write(tmp_path / "x.wav", np.zeros(9000), 8000)
    paths = tmp_path / "x.wav", tmp_path / "x.wav"
    assert audio.informative_segments(*paths, 9000, 8000) == [(0, 8000)]
    assert len(audio.informative_segments(*paths, 9000, 8000, length=1000, count=4)) == 4


def test_levels_leave_silence_out_and_stretches_are_spread():
    tone = np.full((2, 4800), 0.1)
    found = level.powers(lambda start, stop: tone[:, start:stop], 4800, 48000)
    np.testing.assert_allclose(found.mono, [0.01, 0.01], rtol=1e-12)
    assert level.level_db(np.array([0.01, 0.01, 0.0])) == pytest.approx(-20.0, abs=1e-9)
    assert level.typical(np.ones(6000), 300 * 8000, 8000)[:2] == [(0, 40000), (200000, 240000)]


def test_the_example_is_a_pair_that_fits_the_package():
    dry, wet = map(audio.info, datasets.example_pair())
    assert dry[1:] == wet[1:] == (48000, 343680, 1, "FLAC", "PCM_24")
    assert sum(path.stat().st_size for path in datasets.example_pair()) < 2_000_000
    assert "CC0" in (datasets.example_pair()[0].parent / "LICENSE.md").read_text()
    x, y = (audio.read(path)[0] for path in datasets.example_pair())
    assert 0.05 < np.sqrt(np.mean(x**2)) < 0.3
    # Out of phase, as a tape machine leaves it: subtracting makes it louder, not quieter.
    assert np.sum((x - y) ** 2) > np.sum(y**2)
