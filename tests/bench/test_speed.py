"""``streamcodec bench speed`` on codecs of a few channels: what it reports, and what it refuses."""

import importlib.util
import json
from functools import cache

import pytest
import small_presets
import torch
from safetensors.torch import load_file, save_file
from streamcodec_kernels.native.compiler import compiler, ready

from streamcodec import native_int8, native_support, triton_executor
from streamcodec.bench import machine, random_weights, speed
from streamcodec.bench.pairs import AGREEMENT, agreement
from streamcodec.bench.presets import PRESETS
from streamcodec.bench.sides import parts
from streamcodec.bench.work import work_of
from streamcodec.checkpoint import load, save
from streamcodec.cli import main
from streamcodec.codes import Codes
from streamcodec.errors import BackendError
from streamcodec.torch_executor import TorchExecutor

pytest.importorskip("transformers", reason="bench speed compares with transformers")

SMALL = {
    "encodec_24khz": {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64},
    "dac_16khz": {"encoder_hidden_size": 4, "decoder_hidden_size": 64, "codebook_size": 64, "n_codebooks": 3},
}
QUICK = ["--seconds", "0.5", "--repeats", "1", "--steps", "2,5"]
SIDES = ["transformers, offline", "streamcodec, offline", "streamcodec, 2-frame steps", "streamcodec, 5-frame steps"]


@pytest.fixture(autouse=True)
def quick_limits(monkeypatch):
    """The machine's limits need not be right here."""
    monkeypatch.setattr(machine, "SECONDS", 0)
    monkeypatch.setattr(machine, "SIZE", 64)


@cache
def small(name):
    preset = PRESETS[name]
    return random_weights.make(preset._replace(config=preset.config | SMALL[name]))


@pytest.fixture(params=sorted(SMALL))
def directory(request, tmp_path):
    return save(small(request.param), tmp_path / "codec")


def test_the_table_has_every_side_and_direction(directory, capsys):
    assert main(["bench", "speed", "--codec", str(directory), *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "checked against transformers: " in err
    result = json.loads(out)
    assert [(row["side"], row["direction"]) for row in result["rows"]] == [
        (side, way) for side in SIDES for way in ("encode", "decode")
    ]
    for row in result["rows"]:
        assert row["ratio"] == pytest.approx(row["seconds"] / base(result, row["direction"]))
        assert row["gflops"] / row["of_gemm"] == pytest.approx(result["float32_gemm_gflops"], rel=0.01)
        assert row["ms_per_frame"] > 0
        stepped = "frame steps" in row["side"]
        assert ("step_p99_ms" in row) is ("gb_per_s" in row) is stepped
        assert not stepped or row["step_p99_ms"] >= row["step_median_ms"]
    assert set(result["both"]) == set(SIDES)
    assert result["both"][SIDES[0]] == 1


@pytest.mark.skipif(not (ready() or compiler()), reason="nothing can compile the native executor here")
def test_the_profile_has_a_line_for_each_operation_of_a_native_step(directory, capsys):
    command = ["bench", "speed", "--codec", str(directory), *QUICK, "--backend", "torch,native", "--profile"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    ways = [f"streamcodec native, {frames}-frame steps, {way}" for frames in (2, 5) for way in ("encode", "decode")]
    assert list(result["profile"]) == ways
    for spent in result["profile"].values():
        assert spent[0]["operation"].startswith("input -> ")
        assert all(each["gflops"] > 0 for each in spent if each["operation"].startswith("product"))
        assert all(each["ms"] > 0 for each in spent)
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "\nstreamcodec native, 5-frame steps, decode:\n" in out
    assert out.splitlines()[-1].endswith("state and output, copied")


def base(result, direction):
    return next(row["seconds"] for row in result["rows"] if row["direction"] == direction)


def test_one_direction_alone(directory, capsys):
    assert main(["bench", "speed", "--codec", str(directory), *QUICK, "--only", "decode"]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert table[0].startswith("| medians | | ms a frame | / offline | ms a step | p99 | GFLOP/s |")
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table[2:]]
    assert rows == [[side, "decode"] for side in SIDES]


def test_a_codec_that_nothing_else_runs_is_compared_with_its_own_offline_call(capsys):
    quick = ["--seconds", "0.5", "--repeats", "1", "--steps", "5", "--only", "decode"]
    assert main(["bench", "speed", "--codec", "streamcodec_24khz", *quick, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "ratios are to its own offline call" in err
    assert [row["side"] for row in json.loads(out)["rows"]] == ["streamcodec, offline", "streamcodec, 5-frame steps"]


@pytest.mark.parametrize(
    ("name", "package", "other"),
    [
        ("mimi", "transformers", "transformers"),
        ("qwen3_tts_12hz", "qwen_tts", "qwen-tts"),
        ("snac_24khz", "snac", "snac"),
    ],
)
def test_speech_tokenizers_are_compared_with_their_packages(name, package, other, capsys, tmp_path):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"pip install --no-deps {other}")
    directory = save(small_presets.small(name), tmp_path / "codec")
    quick = ["--seconds", "0.5", "--repeats", "1", "--steps", "2", "--json"]
    assert main(["bench", "speed", "--codec", str(directory), *quick]) == 0
    out, err = capsys.readouterr()
    assert f"checked against {other}: " in err
    sides = dict.fromkeys(row["side"] for row in json.loads(out)["rows"])
    assert list(sides) == [f"{other}, offline", "streamcodec, offline", "streamcodec, 2-frame steps"]


def test_a_batch_is_timed_in_steps_of_all_its_streams(capsys, tmp_path):
    directory = save(small("encodec_24khz"), tmp_path / "codec")
    assert main(["bench", "speed", "--codec", str(directory), *QUICK, "--batch", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    frames = 3 * 37  # whole ones in half a second
    for row in result["rows"]:
        assert row["ms_per_frame"] * frames == pytest.approx(1000 * row["seconds"])
        assert row["times_real_time"] == pytest.approx(frames / 75 / row["seconds"])


def test_backends_take_turns_and_what_does_not_run_here_is_left_out(tmp_path, capsys, monkeypatch):
    directory = save(small("encodec_24khz"), tmp_path / "codec")
    real = type(load(directory)).on

    def on(codec, backend, precision="float32"):
        if backend == "native":
            raise BackendError("no such thing here")
        return real(codec, backend, precision)

    monkeypatch.setattr("streamcodec.codecs.Codec.on", on)
    run = ["bench", "speed", "--codec", str(directory), *QUICK, "--json"]
    assert main([*run, "--backend", "torch,native,auto", "--precision", "float32,bfloat16"]) == 0
    out, err = capsys.readouterr()
    assert err.count("left out: no such thing here") == 2
    sides = dict.fromkeys(row["side"] for row in json.loads(out)["rows"])
    assert list(sides)[2:] == [f"streamcodec {name}, {n}-frame steps" for name in ("torch", "auto") for n in (2, 5)]
    assert main([*run, "--backend", "native"]) == 2
    assert "no such thing here" in capsys.readouterr().err


@pytest.mark.skipif(not (ready() or compiler()), reason="nothing can compile the native executor here")
def test_with_weights_in_int8_a_decoder_counts_beside_the_encoder_in_float32(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(native_int8, "FEWEST", 0)
    directory = save(small("encodec_24khz"), tmp_path / "codec")
    run = ["bench", "speed", "--codec", str(directory), *QUICK, "--backend", "native", "--precision", "float32,int8"]
    assert main([*run, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    base, *_ = {row["side"]: row["seconds"] for row in result["rows"]}
    seconds = {(row["side"], row["direction"]): row["seconds"] for row in result["rows"]}
    float32, int8 = "streamcodec native, 2-frame steps", "streamcodec native int8, 2-frame steps"
    assert (int8, "encode") not in seconds
    both = seconds[float32, "encode"] + seconds[int8, "decode"]
    assert result["both"][int8] == pytest.approx(both / (seconds[base, "encode"] + seconds[base, "decode"]))
    assert 20 < result["native_int8_db_2_frames"] < 70
    assert 0 < result["native_int8_codes_2_frames"] < 1


def test_of_the_triton_kernels_every_precision_is_a_side_with_what_it_changes_and_engines_are_where_they_have_graphs(
    tmp_path, capsys, monkeypatch
):
    """Without a GPU the steps run in torch here: in Triton's interpreter they take minutes."""
    pytest.importorskip("triton", reason="Triton is not installed")
    if not torch.cuda.is_available():
        monkeypatch.setattr(triton_executor.TritonExecutor, "_maker", TorchExecutor._maker)
    monkeypatch.setattr(speed, "CHECKED_SECONDS", 0.08)
    monkeypatch.setattr(speed, "_in_engines", lambda codec: True)
    directory = save(small("encodec_24khz"), tmp_path / "codec")
    quick = ["--seconds", "0.05", "--repeats", "1", "--steps", "3", "--json"]
    device = ["--device", "cuda" if torch.cuda.is_available() else "cpu"]
    asked = ["--backend", "torch,triton", "--precision", "float32,tf32,bfloat16"]
    assert main(["bench", "speed", "--codec", str(directory), *quick, *device, *asked]) == 0
    result = json.loads(capsys.readouterr().out)
    ways: dict[str, list[str]] = {}
    for row in result["rows"]:
        ways.setdefault(row["side"], []).append(row["direction"])
    for name in ("torch", "triton", "triton tf32", "triton bfloat16"):
        for place in ("", " of an engine"):
            expected = ["decode"] if " " in name else ["encode", "decode"]
            assert ways[f"streamcodec {name}, 3-frame steps{place}"] == expected
    assert result["triton_float32_codes_3_frames"] >= AGREEMENT
    for name in ("tf32", "bfloat16"):
        assert 0 < result[f"triton_{name}_codes_3_frames"] <= 1
        assert result[f"triton_{name}_db_3_frames"] > 20
        assert result[f"{name}_gemm_gflops"] > 0


def test_of_a_frame_that_differs_one_code_counts_and_many_codebooks_hide_none():
    codes = torch.zeros(1, 8, 50, dtype=torch.int64)
    other = codes.clone()
    assert agreement(codes, other) == 1
    other[:, 3:, 7] = 1
    assert agreement(codes, other) == pytest.approx(1 - 1 / 400)
    assert agreement(codes.repeat(1, 4, 1), other.repeat(1, 4, 1)) == agreement(codes, other)
    assert agreement(codes.repeat(1, 2, 1), torch.cat([codes, codes + 1], 1)) < AGREEMENT
    assert agreement(codes, codes + 1) < AGREEMENT
    for count in (1, 60):  # of codebooks, as few and as many as a codec has
        assert agreement(torch.zeros(1, count, 9), torch.ones(1, count, 9)) < AGREEMENT


def test_what_a_step_reads_and_computes_is_counted():
    codec = small("encodec_24khz")
    work = work_of(codec, 6.0)
    weights = {way: sum(p.numel() for p in getattr(codec, f"{way}r").parameters()) for way in ("encode", "decode")}
    weights["encode"] += codec.spec.codebooks(6.0) * codec.quantizer.codebooks[0].numel()
    for way, count in weights.items():
        assert 0.9 * 4 * count < work[way].weights <= 4 * count  # biases and Snakes are left out
        assert work[way].rings == 0
    low = work_of(codec, 6.0, "bfloat16")
    assert low["encode"] == work["encode"]
    assert low["decode"].operations == work["decode"].operations
    assert work_of(codec, 6.0, "tf32") == work


@pytest.mark.skipif(not (ready() or compiler()), reason="nothing can compile the native executor here")
def test_rounded_weights_are_read_in_int8_however_many_rows_there_are():
    codec = random_weights.make(PRESETS["encodec_24khz"]).on("native")
    most = native_support.instruction_set().int8
    float32 = work_of(codec, 6.0)
    for frames in (1, 100, None):
        work = work_of(codec, 6.0, "int8", frames)
        assert work["encode"] == float32["encode"]
        assert (work["decode"].weights < 0.3 * float32["decode"].weights) == (most > 0)


def test_sides_that_differ_are_not_timed(directory, capsys, monkeypatch):
    """transformers is given another decoder, then other codebooks, than this package reads."""
    monkeypatch.setattr(speed, "_measure", lambda *_: pytest.fail("measured two different things"))
    weights = directory / "model.safetensors"
    whole = load_file(weights)
    for part, message in (("decoder", "decoded audio differs"), ("codebook", "of the codes equal")):
        other = {name: -2 * value if part in name else value for name, value in whole.items()}
        codec = codec_of(directory, other)
        monkeypatch.setattr("streamcodec.bench.pairs.load", lambda _, backend, codec=codec: codec)
        assert main(["bench", "speed", "--codec", str(directory), *QUICK]) == 2
        out, err = capsys.readouterr()
        assert not out
        assert message in err


def codec_of(directory, tensors):
    """The codec of `directory` with other weights."""
    target = directory.parent / f"other{len(list(directory.parent.iterdir()))}"
    target.mkdir()
    (target / "config.json").write_bytes((directory / "config.json").read_bytes())
    save_file({name: value.contiguous() for name, value in tensors.items()}, target / "model.safetensors")
    return load(target)


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("frames", [1, 3, 7, 100])
def test_parts_are_the_codes_and_their_length(name, frames):
    codec = small(name)
    codes = codec.encode(0.1 * torch.randn(1, 1, 20 * codec.spec.hop_length - 3))
    pieces = parts(codec, codes, frames)
    assert torch.equal(torch.cat([piece.data for piece in pieces], 2), codes.data)
    stream = codec.open_decoder()
    streamed = torch.cat([*(stream.push(piece) for piece in pieces), stream.flush()], 2)
    torch.testing.assert_close(streamed, codec.decode(codes), rtol=0, atol=1e-4)
    assert Codes.cat(pieces[:-1]).length is None if len(pieces) > 1 else pieces[0].length == codes.length


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codec", "dac_45khz"], "dac_44khz"),
        (["--codec", "pyproject.toml"], "pyproject.toml"),
        (["--codec", "no/such/folder"], "Hugging Face"),
        (["--batch", "0"], "must be positive"),
        (["--backend", "torch,abacus"], "abacus"),
        (["--precision", "float8"], "float8"),
        (["--repeats", "0"], "must be positive"),
        (["--seconds", "nan"], "must be positive"),
        (["--threads", "-1"], "must be positive"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message, capsys):
    assert main(["bench", "speed", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench"], "SUBCOMMAND"),
        (["bench", "speed", "--steps", "0,1"], "list of positive whole numbers"),
        (["bench", "speed", "--only", "both"], "encode"),
        (["bench", "drift", "--windows", "1/2"], "left/right/hop"),
        (["bench", "drift", "--windows", "1/2/0"], "hop is 0"),
    ],
)
def test_wrong_options_are_explained(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
