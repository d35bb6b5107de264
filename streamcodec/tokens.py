"""Codes as language models write them, and back, token by token as they come.

Speech and music models do not write the codebooks of a frame at once. They write codebook k some steps later than
codebook 0 (a *delay pattern*, Copet et al. 2023, section 2.2), or one codebook after the other in one sequence. Between
the codes stand tokens that mean no sound: begin, end, padding. A `Pattern` says how a model does it; `preset` knows
those of published models.

>>> reader = preset("dia").reader(batch=2)         # two conversations
>>> for step in model:                             # [2, 9], one token a codebook
...     for row, codes in enumerate(reader.push(step)):
...         speaker[row].write(decoder[row].push(codes[None]))   # [9, n], whole frames

Tokens may be NumPy arrays, lists, or torch tensors, of any integer type. Codes come as int64, in torch where tokens do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import CodesError, ConfigError, DtypeError, InputError, ShapeError
from .scalars import whole

__all__ = ["MISSING", "PRESETS", "Pattern", "Reader", "Writer", "leading", "preset"]

MISSING = -1
"""Stands where a token did not come before the end, in what `Reader.flush` gives."""

Array: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Pattern:
    """How a language model writes the codes of a codec.

    delays: by how many steps each codebook comes later, the smallest 0; codebook_size: entries of each.
    begin, end, padding: tokens that mean no code, None where there is no such one.
    lead: steps of nothing but `begin` before the first code.

    `padding` fills a step where a codebook has nothing to say any more; where it is None `end` does.

    sequence: where there is one token a step, the codebook of each in turn. Its ids tell the place too: the token at
    place p of a frame is ``first + p * codebook_size + code``.

    Raises ConfigError for what no pattern is.
    """

    delays: tuple[int, ...]
    codebook_size: int
    begin: int | None = None
    end: int | None = None
    padding: int | None = None
    lead: int = 0
    sequence: tuple[int, ...] = ()
    first: int = 0

    def __post_init__(self) -> None:
        if not self.delays or min(self.delays) != 0 or not all(type(delay) is int for delay in self.delays):
            raise ConfigError(f"delays are {list(self.delays)}; they must be whole numbers of steps, the smallest 0")
        if self.sequence and sorted(self.sequence) != list(range(len(self.delays))):
            raise ConfigError(
                f"sequence is {list(self.sequence)}; it must name each of the {len(self.delays)} codebooks once"
            )
        if self.codebook_size < 1 or min(self.lead, self.first) < 0 or (self.first and not self.sequence):
            raise ConfigError(
                f"codebook_size is {self.codebook_size}, lead {self.lead}, first {self.first}; at least 1, 0 and 0 are "
                "needed, and another first than 0 only with a sequence"
            )
        if self.sequence and any(self.delays):
            raise ConfigError(f"delays are {list(self.delays)}; in a sequence none is delayed")
        for token in self.specials:
            if self.first <= token < self.first + self.codebook_size * (len(self.sequence) or 1):
                raise ConfigError(f"{token} is named as a token that means no code, and it is one")

    @property
    def specials(self) -> tuple[int, ...]:
        """The tokens that mean no code."""
        return tuple({token for token in (self.begin, self.end, self.padding) if token is not None})

    @property
    def codebooks(self) -> int:
        """How many it writes."""
        return len(self.delays)

    def reader(self, batch: SupportsIndex = 1) -> "Reader":
        """From tokens to codes, for `batch` rows of tokens. Raises InputError."""
        return Reader(self, batch)

    def writer(self, batch: SupportsIndex = 1) -> "Writer":
        """From codes to tokens, for `batch` rows of codes. Raises InputError."""
        return Writer(self, batch)


PRESETS = {
    "musicgen": Pattern((0, 1, 2, 3), 2048, begin=2048, padding=2048, lead=1),
    "musicgen-stereo": Pattern((0, 0, 1, 1, 2, 2, 3, 3), 2048, begin=2048, padding=2048, lead=1),
    "parler": Pattern(tuple(range(9)), 1024, begin=1025, end=1024, padding=1024, lead=1),
    "dia": Pattern((0, *range(8, 16)), 1024, begin=1026, end=1024, padding=1025, lead=1),
    "higgs": Pattern(tuple(range(8)), 1024, begin=1024, end=1025, padding=1025, lead=1),
    # SNAC's frame has one, two and four codes of its three levels: seven codebooks here, level by level.
    "orpheus": Pattern(
        (0,) * 7, 4096, begin=128257, end=128258, padding=128263, lead=1, sequence=(0, 1, 3, 4, 2, 5, 6), first=128266
    ),
}
"""The patterns of published models: MusicGen (its stereo models write left and right in turn), Parler-TTS and Dia (DAC
44.1 kHz), Higgs Audio v2, and Orpheus (SNAC 24 kHz)."""


def preset(name: str) -> Pattern:
    """The pattern of a published model. Raises InputError for a name that `PRESETS` has not."""
    if name not in PRESETS:
        raise InputError(f"there is no token pattern {name!r}; choose one of {', '.join(PRESETS)}, or make a Pattern")
    return PRESETS[name]


def leading(codes: Any) -> list[Any]:
    """What a decoder can still take of frames [K, n] whose last codebooks are `MISSING`, as `Reader.flush` gives them.

    A list of codes [k, m], in order, each with the first k codebooks, all there; frames without the first one are left
    out. Quality falls with k.
    """
    counts = (_numpy(codes) != MISSING).cumprod(0).sum(0)
    edges = [0, *(np.flatnonzero(np.diff(counts)) + 1).tolist(), len(counts)]
    return [codes[: counts[a], a:b] for a, b in pairwise(edges) if a < b and counts[a]]


class _Read(NamedTuple):
    """Where a row of tokens stands. steps: [K, m], those of which frames are not complete; part: tokens of a step that
    is not complete; seen: tokens or steps that came.
    """

    steps: Array
    part: Array
    begun: bool = False
    ended: bool = False
    seen: int = 0


class Reader:
    """From tokens to codes; made by `Pattern.reader`. `copy.deepcopy` gives one that goes on from the same place.

    Each row of tokens begins at its first code and ends at the first token that means none. What comes before and after
    is skipped. Rows may begin and end at different times; `reset` makes a row ready for the next conversation.
    """

    def __init__(self, pattern: Pattern, batch: SupportsIndex = 1):
        self.pattern = pattern
        self._delays = np.array(pattern.delays, np.int64)
        self._rows = [self._fresh() for _ in range(whole(batch, "batch"))]
        self._like: Any = None

    def _fresh(self) -> _Read:
        return _Read(np.zeros((self.pattern.codebooks, 0), np.int64), np.zeros(0, np.int64))

    @property
    def begun(self) -> list[bool]:
        """Of each row, whether its first code came."""
        return [row.begun for row in self._rows]

    @property
    def ended(self) -> list[bool]:
        """Of each row, whether a token that means no code came for the next frame: no other frame will be complete."""
        return [row.ended for row in self._rows]

    def push(self, tokens: Any) -> list[Any]:
        """Tokens that came, to the codes of each row that are complete with them, [K, n], n at least 0.

        tokens: [B, K, n], or [B, K] for one step; where a pattern has one token a step [B, n], or [B]. Rows may also
        come in a list, with different n. Raises InputError (ShapeError, DtypeError, CodesError for a token that is
        neither a code nor named): nothing has been taken then, of any row.
        """
        self._like = _torch_tensor(tokens)
        rows = _rows(tokens, len(self._rows), 1 if self.pattern.sequence else 2, self.pattern.codebooks)
        results = [self._push(index, row, new) for index, (row, new) in enumerate(zip(self._rows, rows, strict=True))]
        self._rows = [row for row, _ in results]
        return [_given(codes, self._like) for _, codes in results]

    def flush(self, row: SupportsIndex | None = None) -> list[Any]:
        """The frames of each row, or of one, that are not complete: [K, n], `MISSING` where no code came; and `reset`.

        They are the last of a conversation that was cut off: of the codebooks that come late nothing is there yet.
        `leading` says what a decoder can take of them. Raises InputError for a row that is not there.
        """
        chosen = self._chosen(row)
        results = [_given(self._rest(self._rows[index]), self._like) for index in chosen]
        self.reset(row)
        return results

    def reset(self, row: SupportsIndex | None = None) -> None:
        """Make one row, or all, ready for another conversation. Raises InputError for a row that is not there."""
        for index in self._chosen(row):
            self._rows[index] = self._fresh()

    def _chosen(self, row: SupportsIndex | None) -> list[int]:
        if row is None:
            return list(range(len(self._rows)))
        index = whole(row, "row", 0)
        if index >= len(self._rows):
            raise InputError(f"row is {index}; there are rows 0 to {len(self._rows) - 1}")
        return [index]

    def _push(self, index: int, row: _Read, new: Array) -> tuple[_Read, Array]:
        nothing = self._fresh().steps
        seen = row.seen + new.shape[-1]
        if row.ended:
            return row._replace(seen=seen), nothing
        if not row.begun:
            start = self._start(new)
            if start is None:
                self._check_before(index, new)
                return row._replace(seen=seen), nothing
            self._check_before(index, new[..., :start])
            new = new[..., start:]
        row = row._replace(begun=True, seen=seen)
        if self.pattern.sequence:
            row, new = self._whole_steps(index, row, new)
        return self._frames(index, row._replace(steps=np.concatenate([row.steps, new], 1)))

    def _start(self, new: Array) -> int | None:
        """Where the first code is: of the codebook that is not delayed."""
        flat = new if self.pattern.sequence else new[self.pattern.delays.index(0)]
        found = np.flatnonzero(self._is_code(flat))
        return int(found[0]) if len(found) else None

    def _is_code(self, tokens: Array) -> NDArray[np.bool_]:
        places = len(self.pattern.sequence) or 1
        return (tokens >= self.pattern.first) & (tokens < self.pattern.first + places * self.pattern.codebook_size)

    def _check_before(self, index: int, before: Array) -> None:
        """Text may stand before the codes of a sequence; in codebooks nothing but what is named may."""
        if not self.pattern.sequence:
            self._refuse(index, before[[self.pattern.delays.index(0)]])

    def _refuse(self, index: int, tokens: Array) -> None:
        """Raises CodesError for what is neither a code nor named."""
        strange = ~self._is_code(tokens) & ~np.isin(tokens, self.pattern.specials)
        if strange.any():
            places, last = len(self.pattern.sequence) or 1, self.pattern.first - 1
            named = ", ".join(map(str, sorted(self.pattern.specials))) or "none is"
            raise CodesError(
                f"row {index} has the token {tokens[strange][0]}; codes are {last + 1}.."
                f"{last + places * self.pattern.codebook_size}, tokens that mean none: {named}"
            )

    def _whole_steps(self, index: int, row: _Read, new: Array) -> tuple[_Read, Array]:
        """Of one sequence: the steps that are complete, [K, m], with what waited. After its end nothing is read."""
        pattern, count = self.pattern, self.pattern.codebooks
        codes = self._is_code(new)
        ends = np.flatnonzero(~codes)
        if len(ends):
            self._refuse(index, new[ends[:1]])
            row, new = row._replace(ended=True), new[: ends[0]]
        place = (len(row.part) + np.arange(len(new))) % count
        found, code = np.divmod(new - pattern.first, pattern.codebook_size)
        if (found != place).any():
            wrong = int(np.flatnonzero(found != place)[0])
            raise CodesError(
                f"row {index} has the token {new[wrong]}, a code of place {found[wrong]} of a frame; the next is place "
                f"{place[wrong]} of {count}: a token is missing or too many"
            )
        waiting = np.concatenate([row.part, code])
        steps, part = np.split(waiting, [len(waiting) // count * count])
        ordered = np.empty((count, len(steps) // count), np.int64)
        ordered[list(pattern.sequence)] = steps.reshape(-1, count).T
        return row._replace(part=part), ordered

    def _frames(self, index: int, row: _Read) -> tuple[_Read, Array]:
        """The frames that are complete, and the row without them."""
        arrived = row.steps.shape[1]
        stops = self._stops(row.steps)
        ended = stops < arrived
        self._refuse(index, row.steps[ended, stops[ended]])
        first = int((stops - self._delays)[ended].min()) if ended.any() else arrived + 1
        count = max(0, min(arrived - max(self.pattern.delays), first))
        codes = np.stack([own[delay : delay + count] for own, delay in zip(row.steps, self._delays, strict=True)])
        return row._replace(steps=row.steps[:, count:], ended=row.ended or first <= count), codes

    def _stops(self, steps: Array) -> Array:
        """Of each codebook, the first of steps [K, m] with a token of it that is no code, m where none has: [K]."""
        late = np.arange(steps.shape[1]) >= self._delays[:, None]
        stops = ((steps < 0) | (steps >= self.pattern.codebook_size)) & late
        found: Array = np.pad(stops, ((0, 0), (0, 1)), constant_values=True).argmax(1)
        return found

    def _rest(self, row: _Read) -> Array:
        """The frames that are not complete, up to the last code that came."""
        if self.pattern.sequence:
            rest = np.full((self.pattern.codebooks, min(1, len(row.part))), MISSING, np.int64)
            rest[list(self.pattern.sequence[: len(row.part)])] = row.part[:, None]
            return rest
        ends = (self._stops(row.steps) - self._delays).clip(0)
        rest = np.full((len(ends), ends.max()), MISSING, np.int64)
        for target, own, delay, end in zip(rest, row.steps, self._delays, ends, strict=True):
            target[:end] = own[delay : delay + end]
        return rest


class Writer:
    """From codes to tokens, as a model is given speech to go on from; made by `Pattern.writer`."""

    def __init__(self, pattern: Pattern, batch: SupportsIndex = 1):
        self.pattern = pattern
        if max(pattern.delays) and pattern.begin is None:
            raise ConfigError("this pattern names no `begin`: nothing says what stands before a codebook's first code")
        begin = 0 if pattern.begin is None else pattern.begin
        held = np.full((pattern.codebooks, max(pattern.delays)), begin, np.int64)
        self._held = [held] * whole(batch, "batch")
        self._lead = np.full((pattern.codebooks, pattern.lead), begin, np.int64)
        self._like: Any = None

    def push(self, codes: Any) -> list[Any]:
        """Codes [B, K, n], or a list of B codes [K, n], to the tokens of each row, [K, m]; in one sequence [m].

        The first call gives the `lead` too. Raises InputError (ShapeError, DtypeError, CodesError), and has taken
        nothing then.
        """
        self._like = _torch_tensor(codes)
        rows = _rows(codes, len(self._held), 2, self.pattern.codebooks)
        last = self.pattern.codebook_size - 1
        for index, row in enumerate(rows):
            if row.size and (row.min() < 0 or row.max() > last):
                raise CodesError(f"row {index} has codes over {row.min()}..{row.max()}; 0..{last} are allowed")
        return self._write(rows)

    def finish(self) -> list[Any]:
        """The end: `end` in each codebook, and what the delays hold back, as `push` gives tokens."""
        pattern = self.pattern
        last = [token for token in (pattern.padding, pattern.end, pattern.begin) if token is not None]
        after = np.full((pattern.codebooks, max(pattern.delays)), last[0] if last else 0, np.int64)
        if pattern.sequence:
            given = self._write([after] * len(self._held))
            end = np.array([] if pattern.end is None else [pattern.end], np.int64)
            return [_given(np.concatenate([_numpy(row), end]), self._like) for row in given]
        if pattern.end is not None:
            after = np.concatenate([np.full((pattern.codebooks, 1), pattern.end, np.int64), after], 1)
        return self._write([after] * len(self._held))

    def _write(self, rows: Sequence[Array]) -> list[Any]:
        tokens = []
        for index, row in enumerate(rows):
            codes = np.concatenate([self._held[index], row], 1)
            steps = row.shape[1]
            longest = max(self.pattern.delays)
            late = [own[longest - d : longest - d + steps] for own, d in zip(codes, self.pattern.delays, strict=True)]
            self._held[index] = codes[:, steps:]
            tokens.append(_given(self._placed(np.stack(late)), self._like))
        self._lead = self._lead[:, :0]
        return tokens

    def _placed(self, steps: Array) -> Array:
        """Steps [K, n] of codes with the lead before them, in one sequence where that is how they are written."""
        pattern = self.pattern
        if not pattern.sequence:
            return np.concatenate([self._lead, steps], 1)
        places = pattern.first + np.arange(pattern.codebooks) * pattern.codebook_size
        return np.concatenate([self._lead[0], (steps[list(pattern.sequence)] + places[:, None]).T.reshape(-1)])


def _torch_tensor(given: Any) -> Any:
    """The torch tensor in what was given, or None: without importing torch."""
    one = given[0] if isinstance(given, (list, tuple)) and len(given) else given
    return one if hasattr(one, "new_tensor") else None


def _given(values: Array, like: Any) -> Any:
    return values if like is None else like.new_tensor(values).long()


def _numpy(given: Any) -> Array:
    array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if array.size and array.dtype.kind not in "iu":
        raise DtypeError(f"tokens are {array.dtype}; they must be whole numbers, such as numpy.int32 or torch.int64")
    return array.astype(np.int64)


def _rows(given: Any, batch: int, dimensions: int, codebooks: int) -> list[Array]:
    """What was given as a row of tokens for each of the batch: [n], or [K, n] where `dimensions` is 2."""
    wanted = f"[{batch}, n] or [{batch}]" if dimensions == 1 else f"[{batch}, {codebooks}, n] or [{batch}, {codebooks}]"
    rows = [_numpy(row) for row in given] if _ragged(given) else list(_whole_batch(given))
    rows = [row[..., None] if row.ndim == dimensions - 1 else row for row in rows]
    fits = all(row.ndim == dimensions and (dimensions == 1 or len(row) == codebooks) for row in rows)
    if len(rows) != batch or not fits:
        found = [list(row.shape) for row in rows[:4]]
        raise ShapeError(f"the {len(rows)} rows are {found}{'' if len(rows) <= 4 else ' ...'}; wanted is {wanted}")
    return rows


def _whole_batch(given: Any) -> Iterable[Array]:
    try:
        array = _numpy(given)
    except ValueError as error:  # rows of different length, in lists
        if isinstance(error, DtypeError):
            raise
        return [_numpy(row) for row in given]
    if array.ndim == 0:
        raise ShapeError("tokens are a single number; give one row of them for each conversation, [B, ...]")
    return list(array)


def _ragged(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and any(hasattr(row, "ndim") for row in given)
