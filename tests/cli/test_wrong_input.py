"""What cannot be read or run is one line on stderr, and leaves no file."""

from pathlib import Path

import numpy as np
import soundfile
from commands import RATE, assert_fails


def test_failures_are_one_line_and_leave_no_file(cli, tiny, voice):
    good = ["--codec", tiny]
    assert_fails(cli, "roundtrip", "missing.wav", *good, match=r"missing\.wav does not exist")
    assert_fails(cli, "roundtrip", voice, "out.aac", *good, match=r"'\.aac'.*\.wav, \.flac")
    assert_fails(cli, "roundtrip", voice, "no/out.wav", *good, match="does not exist")
    assert_fails(cli, "roundtrip", voice, "--codec", "no_such_codec", match="no_such_codec")
    assert_fails(cli, "roundtrip", voice, *good, "--bandwidth", 7, match=r"7.0 kbps .* 0\.9, 1\.8")
    assert_fails(cli, "roundtrip", voice, *good, "--device", "abacus", match="'abacus' cannot be used")
    assert_fails(cli, "roundtrip", voice, *good, "--offline", "--start", "primed", match="--offline")
    assert_fails(cli, "encode", voice, "no/codes.safetensors", *good, match="does not exist")
    assert_fails(cli, "decode", voice, "out.wav", match="is not a codes file")
    assert_fails(cli, "info", "no_such_codec", match="no_such_codec")


def test_a_recording_that_ends_early_leaves_no_output(cli, tiny):
    soundfile.write("cut.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 200_000), RATE)
    Path("cut.flac").write_bytes(Path("cut.flac").read_bytes()[:-1000])
    assert_fails(cli, "roundtrip", "cut.flac", "--codec", tiny, match="cut short")
    assert_fails(cli, "encode", "cut.flac", "codes.safetensors", "--codec", tiny, match="cut short")


def test_samples_that_are_no_numbers_are_refused(cli, tiny):
    soundfile.write("nan.wav", np.array([0.0, np.nan, 0.0]), RATE, subtype="FLOAT")
    assert_fails(cli, "roundtrip", "nan.wav", "--codec", tiny, match=r"nan\.wav: sample 1 .* channel 0 is NaN")
