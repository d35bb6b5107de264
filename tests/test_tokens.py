"""Tokens of language models to codes and back: as the models' own code does it, for any partition, row by row."""

import ast
import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import cuts, small_codec

from streamcodec import Codes, tokens
from streamcodec.errors import CodesError, ConfigError, DtypeError, InputError, ShapeError
from streamcodec.tokens import MISSING, PRESETS, Pattern, leading, preset


def codes_for(pattern: Pattern, frames: int, batch: int = 1, seed: int = 0) -> np.ndarray:
    """[B, K, T] at random."""
    return np.random.default_rng(seed).integers(0, pattern.codebook_size, (batch, pattern.codebooks, frames))


def written(pattern: Pattern, codes: np.ndarray, finish: bool = True) -> list[np.ndarray]:
    """The tokens of each row."""
    writer = pattern.writer(len(codes))
    parts = [writer.push(codes), *([writer.finish()] if finish else [])]
    return [np.concatenate(rows, -1) for rows in zip(*parts, strict=True)]


def read(pattern: Pattern, rows: list[np.ndarray], sizes: list[int]) -> tuple[tokens.Reader, list[np.ndarray]]:
    """What a reader gives of rows of tokens that come in pieces."""
    reader, found = pattern.reader(len(rows)), []
    for start, stop in cuts(max(row.shape[-1] for row in rows), sizes):
        found.append(reader.push([row[..., start:stop] for row in rows]))
    return reader, [np.concatenate(parts, 1) for parts in zip(*found, strict=True)]


PATTERNS = [*PRESETS.values(), Pattern((2, 0, 1), 5, begin=5, end=6), Pattern((0, 0), 3), Pattern((0,), 4, padding=9)]


@given(st.sampled_from(PATTERNS), st.lists(st.integers(0, 7), max_size=8), st.lists(st.integers(0, 5), min_size=1))
def test_what_is_written_is_read_again_for_any_partition_and_rows_of_any_length(
    pattern: Pattern, sizes: list[int], lengths: list[int]
) -> None:
    if max(pattern.delays) and pattern.begin is None:
        return
    codes = [codes_for(pattern, length, seed=i)[0] for i, length in enumerate(lengths)]
    whole = pattern.writer(len(codes))
    rows = [np.concatenate(parts, -1) for parts in zip(whole.push(codes), whole.finish(), strict=True)]
    reader, found = read(pattern, rows, sizes)
    for given_codes, got in zip(codes, found, strict=True):
        np.testing.assert_array_equal(got, given_codes)
    # What ends in a token of its own is known to have ended; after it nothing is left.
    if pattern.end is not None:
        assert reader.ended == [bool(length) for length in lengths]
    assert all(not rest.size for rest in reader.flush())


@given(st.lists(st.integers(0, 4), max_size=6))
def test_codes_may_be_written_in_pieces_of_any_size(sizes: list[int]) -> None:
    for pattern in PRESETS.values():
        codes, writer = codes_for(pattern, 9, batch=2), pattern.writer(2)
        parts = [writer.push(codes[:, :, a:b]) for a, b in cuts(9, sizes)] + [writer.finish()]
        for row, whole in zip(zip(*parts, strict=True), written(pattern, codes), strict=True):
            np.testing.assert_array_equal(np.concatenate(row, -1), whole)


# -- as the models' own code does it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "channels"), [("musicgen", 1), ("musicgen-stereo", 2)])
def test_musicgen_is_written_as_transformers_writes_it(name: str, channels: int) -> None:
    from transformers.models.musicgen.modeling_musicgen import MusicgenForCausalLM

    pattern, frames = preset(name), 7
    codes = torch.from_numpy(codes_for(pattern, frames, batch=2))
    model = SimpleNamespace(num_codebooks=pattern.codebooks, config=SimpleNamespace(audio_channels=channels))
    prompt = torch.cat([torch.full((2, pattern.codebooks, 1), 2048), codes], 2).flatten(0, 1)
    longest = max(pattern.delays)
    _, mask = MusicgenForCausalLM.build_delay_pattern_mask(model, prompt, 2048, 1 + frames + longest)
    ours = np.stack(written(pattern, codes.numpy()))
    np.testing.assert_array_equal(ours, mask.view(2, pattern.codebooks, -1).numpy())


def test_dia_is_written_and_read_as_transformers_does() -> None:
    from transformers.models.dia.processing_dia import DiaProcessor

    pattern, frames = preset("dia"), 20
    codes = torch.from_numpy(codes_for(pattern, frames, batch=2))
    edges = [torch.full((2, 9, n), token) for n, token in ((1, 1026), (1, 1024), (15, 1025))]
    undelayed = torch.cat([edges[0], codes, *edges[1:]], 2).transpose(1, 2)

    def moved(sequence: torch.Tensor, revert: bool, fill: tuple[int, int]) -> torch.Tensor:
        index = DiaProcessor.build_indices(2, sequence.shape[1], 9, list(pattern.delays), revert)
        return DiaProcessor.apply_audio_delay(sequence, fill[1], fill[0], index)

    delayed = moved(undelayed, False, (1026, 1025))
    np.testing.assert_array_equal(np.stack(written(pattern, codes.numpy())), delayed.transpose(1, 2).numpy())
    _, back = read(pattern, list(delayed.transpose(1, 2).numpy()), [1] * 40)
    theirs = moved(delayed, True, (-1, -1))[:, 1 : 1 + frames].transpose(1, 2)
    np.testing.assert_array_equal(np.stack(back), theirs.numpy())


def test_higgs_is_written_as_transformers_writes_it() -> None:
    from transformers.models.higgs_audio_v2.processing_higgs_audio_v2 import HiggsAudioV2Processor

    pattern = preset("higgs")
    codes = torch.from_numpy(codes_for(pattern, 12))
    edges = [torch.full((1, 8, 1), token) for token in (1024, 1025)]
    ids = SimpleNamespace(audio_stream_bos_id=1024, audio_stream_eos_id=1025)
    theirs = HiggsAudioV2Processor.build_delay_pattern(ids, torch.cat([edges[0], codes, edges[1]], 2))
    np.testing.assert_array_equal(np.stack(written(pattern, codes.numpy())), theirs.numpy())


def test_parler_is_written_as_its_package_writes_what_it_learns_from() -> None:
    """Its module is of another transformers; the function stands by itself."""
    tree = ast.parse(source_of("parler_tts", "modeling_parler_tts.py", "parler-tts"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found: dict[str, Any] = {"torch": torch}
    exec(compile(ast.Module([functions["build_delay_pattern_mask"]], []), "parler_tts", "exec"), found)
    pattern, frames = preset("parler"), 12
    codes = torch.from_numpy(codes_for(pattern, frames, batch=2))
    edges = [torch.full((2, 9, 1), token) for token in (1025, 1024)]
    labels = torch.cat([edges[0], codes, edges[1]], 2)
    _, mask = found["build_delay_pattern_mask"](labels.flatten(0, 1), 1025, 1024, labels.shape[2] + 9, 9)
    mask = torch.where(mask == -1, 1024, mask).view(2, 9, -1).numpy()  # as its training does
    theirs, last = np.split(mask, [-1], 2)  # a step more than is needed
    np.testing.assert_array_equal(np.stack(written(pattern, codes.numpy())), theirs)
    assert (last == 1024).all()


def test_orpheus_is_read_as_its_package_reads_it() -> None:
    heard: list[list[torch.Tensor]] = []
    snac = SimpleNamespace(decode=lambda levels: heard.append(levels) or torch.zeros(1, 1, 8192))
    snac.eval = lambda: snac
    snac.to = lambda device: snac
    stub = SimpleNamespace(SNAC=SimpleNamespace(from_pretrained=lambda name: snac))
    decoder = ModuleType("orpheus_decoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "snac", stub)
        exec(source_of("orpheus_tts", "decoder.py", "orpheus-speech"), decoder.__dict__)
    decoder.snac_device = "cpu"
    # The text of the token 128256 + n is <custom_token_n>.
    sequence = np.random.default_rng(0).integers(1, 4096, 28) + 128266 + 4096 * (np.arange(28) % 7)
    theirs = [decoder.turn_token_into_id(f"<custom_token_{token - 128256}>", i) for i, token in enumerate(sequence)]
    assert decoder.convert_to_audio(theirs, 28)
    (levels,) = heard
    prompt = [128259, 9906, 11, 128009, 128260, 128261, 128257]  # a prompt of text before the speech
    reader = preset("orpheus").reader()
    (codes,) = reader.push([[*prompt, *sequence, 128258, 128262]])
    ours = Codes(torch.from_numpy(codes)[None]).levels((1, 2, 4))
    assert all(torch.equal(own, their.long()) for own, their in zip(ours, levels, strict=True))
    assert reader.ended == [True]


def source_of(package: str, file: str, name: str) -> str:
    """A file of a package that is not to be imported. The test is skipped where it is not there."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"pip install --no-deps {name}")
    return Path(found.submodule_search_locations[0], file).read_text()


# -- rows ------------------------------------------------------------------------------------------------------------


def test_rows_begin_and_end_at_different_times_and_a_row_serves_another_conversation() -> None:
    pattern = preset("dia")
    first, second, third = (codes_for(pattern, n, seed=n)[0] for n in (5, 9, 4))
    (a,), (b,), (c,) = (written(pattern, codes[None]) for codes in (first, second, third))
    waiting = np.full((9, 6), pattern.begin)
    steps = [a, np.concatenate([waiting, b], 1)]  # the second begins six steps later
    reader, got = pattern.reader(2), [[], []]
    reused = False
    for s in range(60):
        tokens_now = np.full((2, 9), pattern.padding)
        for row, sequence in enumerate(steps):
            if s < sequence.shape[1]:
                tokens_now[row] = sequence[:, s]
        for row, codes in enumerate(reader.push(tokens_now)):
            got[row].append(codes)
        if reader.ended[0] and not reused:
            reader.reset(0)
            steps[0], reused = np.concatenate([np.full((9, s + 1), pattern.padding), c], 1), True
    np.testing.assert_array_equal(np.concatenate(got[0], 1), np.concatenate([first, third], 1))
    np.testing.assert_array_equal(np.concatenate(got[1], 1), second)


def test_frames_that_were_cut_off_are_said() -> None:
    pattern = Pattern((0, 1, 3), 10, begin=10, end=11)
    codes = codes_for(pattern, 6)
    reader = pattern.reader()
    (tokens_,) = written(pattern, codes, finish=False)  # interrupted: the late codebooks never come
    (complete,) = reader.push([tokens_])
    np.testing.assert_array_equal(complete, codes[0, :, :3])
    (rest,) = reader.flush()
    expected = codes[0, :, 3:].copy()
    expected[1, 2:], expected[2] = MISSING, MISSING
    np.testing.assert_array_equal(rest, expected)
    np.testing.assert_array_equal(np.concatenate([part[0] for part in leading(rest)]), rest[0])
    assert [part.shape for part in leading(rest)] == [(2, 2), (1, 1)]


def test_a_cut_sequence_says_the_places_that_came() -> None:
    reader = preset("orpheus").reader()
    assert not reader.push([[128266 + 7, 128266 + 4096 + 8, 128266 + 2 * 4096 + 9, 128258]])[0].size
    (rest,) = reader.flush()
    assert rest[:, 0].tolist() == [7, 8, MISSING, 9, MISSING, MISSING, MISSING]
    assert reader.ended == [False]  # ready for the next


def test_a_tail_of_fewer_codebooks_is_decoded() -> None:
    codec = small_codec()
    pattern = Pattern(tuple(range(codec.spec.num_codebooks)), codec.spec.codebook_size, begin=16, lead=1)
    codes = codes_for(pattern, 12)
    reader, decoder = pattern.reader(), codec.open_decoder()
    frames = reader.push(written(pattern, codes, finish=False)) + [p for rest in reader.flush() for p in leading(rest)]
    audio = torch.cat([decoder.push(part[None]) for part in frames] + [decoder.flush()], 2)
    assert audio.shape[2] == 12 * codec.spec.hop_length
    whole = codec.decode(codes)
    complete = (12 - max(pattern.delays)) * codec.spec.hop_length
    torch.testing.assert_close(audio[:, :, :complete], whole[:, :, :complete])


def test_what_comes_after_the_end_is_not_decoded_and_not_refused() -> None:
    pattern = preset("higgs")
    codes = codes_for(pattern, 3)
    (sequence,) = written(pattern, codes)
    noise = np.full((8, 5), 77_777)
    reader = pattern.reader()
    (found,) = reader.push([np.concatenate([sequence, noise], 1)])
    np.testing.assert_array_equal(found, codes[0])
    assert not reader.push([noise])[0].size


# -- kinds of input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.int16])
def test_tensors_arrays_and_lists_give_the_same(dtype: torch.dtype) -> None:
    pattern = preset("musicgen")
    codes = codes_for(pattern, 4, batch=2)
    rows = np.stack(written(pattern, codes))
    found = pattern.reader(2).push(torch.from_numpy(rows).to(dtype))
    assert all(type(row) is torch.Tensor and row.dtype == torch.int64 for row in found)
    np.testing.assert_array_equal(torch.stack(found).numpy(), codes)
    np.testing.assert_array_equal(np.stack(pattern.reader(2).push(rows.tolist())), codes)
    np.testing.assert_array_equal(np.stack(pattern.reader(2).push(rows.astype(np.int32))), codes)
    stepwise = pattern.reader(2)
    parts = [np.stack(stepwise.push(rows[:, :, s])) for s in range(rows.shape[2])]
    np.testing.assert_array_equal(np.concatenate(parts, 2), codes)


def test_rows_of_lists_may_have_different_lengths() -> None:
    first, second = codes_for(preset("orpheus"), 2, batch=2)
    tokens_ = written(preset("orpheus"), np.stack([first, second]))
    found = preset("orpheus").reader(2).push([tokens_[0].tolist(), tokens_[1][:8].tolist()])
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], second[:, :1])


WRONG: list[tuple[Any, type[Exception], str]] = [
    (np.zeros((2, 3, 1), int), ShapeError, r"wanted is \[2, 4, n\] or \[2, 4\]"),
    (np.zeros((1, 4, 1), int), ShapeError, "the 1 rows"),
    (np.zeros((2, 4, 1)), DtypeError, "float64"),
    (5, ShapeError, "single number"),
    (np.full((2, 4, 1), 2049), CodesError, r"token 2049; codes are 0\.\.2047, tokens that mean none: 2048"),
    (np.full((2, 4, 1), -3), CodesError, "token -3"),
]


@pytest.mark.parametrize(("bad", "error", "text"), WRONG)
def test_bad_tokens_are_refused_and_nothing_is_lost(bad: Any, error: type[Exception], text: str) -> None:
    pattern = preset("musicgen")
    codes = codes_for(pattern, 6, batch=2)
    rows = np.stack(written(pattern, codes))
    for place in (0, 3):
        reader = pattern.reader(2)
        before = reader.push(rows[:, :, :place])
        with pytest.raises(error, match=text):
            reader.push(bad)
        found = [np.concatenate(pair, 1) for pair in zip(before, reader.push(rows[:, :, place:]), strict=True)]
        np.testing.assert_array_equal(np.stack(found), codes)


def test_a_token_of_another_place_is_refused() -> None:
    pattern = preset("orpheus")
    (sequence,) = written(pattern, codes_for(pattern, 2))
    reader = pattern.reader()
    reader.push([sequence[:4]])
    with pytest.raises(CodesError, match=r"a code of place 4 of a frame; the next is place 3 of 7"):
        reader.push([sequence[5:]])
    assert reader.push([sequence[4:]])[0].shape[1] == 2


def test_codes_outside_the_codebook_are_not_written() -> None:
    with pytest.raises(CodesError, match=r"over 0\.\.1024; 0\.\.1023 are allowed"):
        preset("dia").writer().push(np.array([[[0]] * 8 + [[1024]]]))


@pytest.mark.parametrize(
    "bad",
    [
        {"delays": ()}, {"delays": (1, 2)}, {"delays": (0, -1)}, {"delays": (0, 0.5)}, {"codebook_size": 0},
        {"lead": -1}, {"end": 3}, {"sequence": (0,)}, {"sequence": (0, 1)}, {"first": 4},
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Pattern(**{"delays": (0, 1), "codebook_size": 8} | bad)


def test_unknown_names_and_rows_are_refused() -> None:
    with pytest.raises(InputError, match="choose one of musicgen"):
        preset("bark")
    with pytest.raises(InputError, match="rows 0 to 1"):
        preset("dia").reader(2).flush(2)
    with pytest.raises(ConfigError, match="begin"):
        Pattern((0, 1), 8).writer()


def test_a_copy_goes_on_from_the_same_place() -> None:
    pattern = preset("parler")
    codes = codes_for(pattern, 6)
    rows = np.stack(written(pattern, codes))
    reader = pattern.reader()
    reader.push(rows[:, :, :9])
    twin = copy.deepcopy(reader)
    np.testing.assert_array_equal(reader.push(rows[:, :, 9:])[0], twin.push(rows[:, :, 9:])[0])
