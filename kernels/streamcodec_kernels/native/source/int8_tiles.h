// Windows times a matrix of whole numbers of 8 bits, in whole numbers, on tiles (AMX).
//
// A window is made numbers of 32 bits times a power of two, which its largest value decides: no value changes by more than
// 2^-31 of that one. Such a number is four digits to base 256, from -128 to 127, and the digits of a window are rows of a
// tile. What tiles add up is exact, so in any order the same. The sums of the four digits are put together in float32, and
// are multiplied with the scale of their column and the power of two of their window. So here too a value does not depend
// on its neighbours. A window with a value that is not finite gives NaN.
//
// The matrix begins with a line that says how many of its rows share scales. Then it lies in panels of WIDE columns, two
// tiles. A panel holds its rows DEPTH at a time, of these first the first tile, and behind rows that share scales one float
// for each column. A tile holds its rows by four, [fourth, column, 4]. What is missing of rows and columns is zeros.
#pragma once

#include "low_precision.h"

// Rows of the matrix in a tile; digits of a value; windows whose digits fill a tile, and those that are multiplied at once.
static constexpr int64_t DEPTH = 64, DIGITS = 4, WINDOWS = TILE / DIGITS, MOST_WINDOWS = 2 * WINDOWS;

// Bytes of a tile, of the scales of a panel, and of the line that a matrix begins with.
static constexpr int64_t TILE_BYTES = TILE * DEPTH, SCALES_BYTES = WIDE * sizeof(float), HEAD_BYTES = 64;

// The most windows that are multiplied without tiles.
static constexpr int64_t FEW = 2;

// How far ahead of their use the weights are fetched, in bytes: into the nearest cache, and into the next one.
static constexpr int64_t INT8_NEAR = 4 * TILE_BYTES, INT8_FAR = 16 * TILE_BYTES;

static constexpr int32_t INFINITE = 0x7f800000;

static int64_t int8_panel_count(const Operation &op) { return (op.columns + WIDE - 1) / WIDE; }

#if HAS_TILES
// Four rows from `row` on of a tile's columns, [column, 4].
static void write_four(const Tiles &of, int64_t row, int64_t column, int8_t *to) {
    uint32_t each[TILE] = {};
    const int64_t rows = of.rows - row < 4 ? of.rows - row : 4;
    const int64_t columns = of.columns - column < TILE ? of.columns - column : TILE;
    for (int64_t i = 0; i < rows; ++i) {
        const int8_t *from = of.numbers + (row + i) * of.columns + column;
        for (int64_t c = 0; c < columns; ++c) each[c] |= (uint32_t)(uint8_t)from[c] << 8 * i;
    }
    memcpy(to, each, sizeof each);
}

static void in_tiles(const Tiles &of) {
    const int64_t depth = (of.rows + DEPTH - 1) / DEPTH, scaled = depth / of.parts, rows = scaled * DEPTH;
    int8_t *to = of.packed;
    memset(to, 0, HEAD_BYTES);
    memcpy(to, &rows, sizeof rows);
    to += HEAD_BYTES;
    for (int64_t column = 0; column < of.columns; column += WIDE)
        for (int64_t part = 0; part < of.parts; ++part) {
            for (int64_t first = part * rows; first < (part + 1) * rows; first += DEPTH)
                for (int64_t tile = column; tile < column + WIDE; tile += TILE)
                    for (int64_t row = first; row < first + DEPTH; row += 4, to += 4 * TILE)
                        write_four(of, row, tile, to);
            const int64_t left = of.columns - column < WIDE ? of.columns - column : WIDE;
            memset(to, 0, SCALES_BYTES);
            memcpy(to, of.scales + part * of.columns + column, left * sizeof(float));
            to += SCALES_BYTES;
        }
}

namespace {
// A matrix as a product reads it: so many DEPTHs of rows, of which `scaled` at a time share scales; and the digits of
// windows in a thread's room.
struct Int8Work {
    int64_t depth, scaled;
    const int8_t *panels;
    float *window;       // room for one, side by side
    float *exponents;    // of each window: of the power of two that its numbers are multiplied with
    int8_t *digits;      // WINDOWS at a time: [depth, window, digit, DEPTH]

    Int8Work(const Operation &op, const Room &room) {
        int64_t rows;
        memcpy(&rows, op.int8_tiles, sizeof rows);
        depth = (window_width(op) + DEPTH - 1) / DEPTH, scaled = rows / DEPTH;
        panels = op.int8_tiles + HEAD_BYTES;
        window = (float *)room.halves;
        exponents = window + depth * DEPTH;
        digits = (int8_t *)(exponents + op.halves_rows);
    }

    int64_t part_bytes() const { return scaled * 2 * TILE_BYTES + SCALES_BYTES; }
    int64_t panel_bytes() const { return depth / scaled * part_bytes(); }
    int8_t *tile_of(int64_t window) const { return digits + window / WINDOWS * depth * TILE_BYTES; }
};
}

// A window side by side, with zeros to the end of the last tile.
static void lay_out(const Operation &op, Place at, const Int8Work &work) {
    float *to = work.window, *const end = to + work.depth * DEPTH;
    for (int64_t s = 0; s < op.segment_count; to += op.segments[s++].width) {
        const Segment &segment = op.segments[s];
        memcpy(to, segment.first + at.stream * segment.stream + at.row * segment.row, segment.width * sizeof(float));
    }
    memset(to, 0, (end - to) * sizeof(float));
}

// By which power of two the numbers of a window are to be multiplied. The largest has 31 bits, or where one of its digits
// would be more than 127, 30. NaN where a value is not finite.
static float exponent_of(const float *window, const float *end) {
    I most = {};
    for (; window < end; window += LANES) {
        const I size = bits(load(window)) & INT32_MAX;
        most = size > most ? size : most;
    }
    int32_t largest = 0;
    for (int lane = 0; lane < LANES; ++lane) largest = most[lane] > largest ? most[lane] : largest;
    return largest < INFINITE ? (float)(((largest + 0x10101) >> 23) - 127 - 30) : __builtin_nanf("");
}

// x times two to the power of a vector of whole numbers, whatever it is.
TILED static inline V times_power(V x, V power) { return (V)_mm512_maskz_scalef_ps(0xffff, (__m512)x, (__m512)power); }

// To the nearest numbers, ties to even.
TILED static inline I whole_numbers(V x) { return (I)_mm512_maskz_cvtps_epi32(0xffff, (__m512)x); }

// Quarters of two vectors: two of each from FIRST on, and every second one of each from FIRST on.
template <int FIRST>
TILED static inline I beside(I a, I b) {
    constexpr int FROM = FIRST | (FIRST + 1) << 2;
    return (I)_mm512_maskz_shuffle_i32x4(0xffff, (__m512i)a, (__m512i)b, FROM | FROM << 4);
}

template <int FIRST>
TILED static inline I every(I a, I b) {
    constexpr int FROM = FIRST | (FIRST + 2) << 2;
    return (I)_mm512_maskz_shuffle_i32x4(0xffff, (__m512i)a, (__m512i)b, FROM | FROM << 4);
}

typedef uint32_t U __attribute__((vector_size(4 * LANES)));

// The digits of a window, DEPTH values at a time, in rows that follow each other; with 128 added to each, if `lifted`.
TILED static void write_digits(const float *window, const float *end, float exponent, bool lifted, int8_t *to) {
    alignas(64) uint8_t by_digit[64];
    for (int i = 0; i < 64; ++i) by_digit[i] = (uint8_t)(i % LANES * DIGITS + i / LANES);
    const __m512i order = _mm512_load_si512(by_digit);
    const U carry = U{} + 0x80808080, sign = lifted ? U{} : carry;  // 128 in each digit
    for (; window < end; window += DEPTH, to += TILE_BYTES) {
        I part[4];
        for (int j = 0; j < 4; ++j) {
            const U number = (U)whole_numbers(times_power(load(window + j * LANES), all(-exponent)));
            part[j] = (I)_mm512_maskz_permutexvar_epi8(~UINT64_C(0), order, (__m512i)((number + carry) ^ sign));
        }
        // Each has 16 values, digit after digit: a square of four by four, which is to be turned over.
        const I low = beside<0>(part[0], part[1]), high = beside<2>(part[0], part[1]);
        const I more = beside<0>(part[2], part[3]), most = beside<2>(part[2], part[3]);
        const I digits[DIGITS] = {every<0>(low, more), every<1>(low, more), every<0>(high, most), every<1>(high, most)};
        memcpy(to, digits, sizeof digits);
    }
}

// Make the digits of the windows of `rows` rows of the result, from `first` on.
static void fill_digits(const Operation &op, int64_t first, int64_t rows, const Int8Work &work, Room &room) {
    const float *end = work.window + work.depth * DEPTH;
    Place at = place_of(first, op.rows);
    for (int64_t r = 0; r < rows; ++r, at = after(at, op.rows)) {
        lay_out(op, at, work);
        work.exponents[r] = exponent_of(work.window, end);
        int8_t *digits = work.tile_of(r) + r % WINDOWS * DIGITS * DEPTH;
        write_digits(work.window, end, work.exponents[r], rows <= FEW, digits);
    }
    room.first = first, room.rows = rows;
}

// What a block of windows fetches for the next panel, for each DEPTH of rows; or whether it fetches its own weights.
struct Fetched {
    const int8_t *from;
    int64_t bytes;
    bool own;
};

// One tile of digits or two, `apart` bytes from each other, times a part of a panel: [MOST_WINDOWS, digit, WIDE].
template <bool TWO>
TILED static void multiply(
    const int8_t *digits, int64_t apart, const int8_t *weights, int64_t depth, Fetched fetched, int32_t *out
) {
    _tile_zero(0);
    _tile_zero(1);
    if (TWO) _tile_zero(2);
    if (TWO) _tile_zero(3);
    for (; depth > 0; --depth, digits += TILE_BYTES, weights += 2 * TILE_BYTES) {
        if (fetched.own)
            for (int64_t i = 0; i < 2 * TILE_BYTES; i += 64) {
                __builtin_prefetch(weights + INT8_NEAR + i, 0, 3);
                __builtin_prefetch(weights + INT8_FAR + i, 0, 2);
            }
        for (int64_t i = 0; i < fetched.bytes; i += 64, fetched.from += 64) __builtin_prefetch(fetched.from, 0, 2);
        _tile_loadd(4, digits, DEPTH);
        _tile_loadd(6, weights, DEPTH);
        _tile_dpbssd(0, 4, 6);
        if (TWO) _tile_loadd(5, digits + apart, DEPTH);
        if (TWO) _tile_dpbssd(2, 5, 6);
        _tile_loadd(7, weights + TILE_BYTES, DEPTH);
        _tile_dpbssd(1, 4, 7);
        if (TWO) _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, out, WIDE * sizeof(int32_t));
    _tile_stored(1, out + TILE, WIDE * sizeof(int32_t));
    if (TWO) _tile_stored(2, out + TILE * WIDE, WIDE * sizeof(int32_t));
    if (TWO) _tile_stored(3, out + TILE * WIDE + TILE, WIDE * sizeof(int32_t));
}

// The same for few windows, whose digits are lifted, without tiles: the sums stay in registers, so that a panel's weights
// are read on while the sums of the one before it are put together. (Tiles are written to memory for that.) 128 times the
// weights is taken off in the end. Whole numbers that are too large on the way are right again then.
template <int WINDOWS_>
TILED static void multiply_few(const int8_t *digits, const int8_t *weights, int64_t depth, int32_t *out) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sums[WINDOWS_ * DIGITS][2] = {}, lift[2] = {};
    for (; depth > 0; --depth, digits += TILE_BYTES, weights += 2 * TILE_BYTES)
#pragma GCC unroll 4
        for (int64_t i = 0; i < TILE_BYTES; i += 64) {
            for (int j = 0; j < 2; ++j) {
                __builtin_prefetch(weights + INT8_NEAR + 2 * i + 64 * j, 0, 3);
                __builtin_prefetch(weights + INT8_FAR + 2 * i + 64 * j, 0, 2);
            }
            const __m512i read[2] = {_mm512_load_si512(weights + i), _mm512_load_si512(weights + TILE_BYTES + i)};
            for (int j = 0; j < 2; ++j) lift[j] = _mm512_dpbusd_epi32(lift[j], ones, read[j]);
#pragma GCC unroll 8
            for (int k = 0; k < WINDOWS_ * DIGITS; ++k) {
                int32_t four;
                memcpy(&four, digits + k * DEPTH + i / LANES, sizeof four);
                const __m512i each = _mm512_set1_epi32(four);
                for (int j = 0; j < 2; ++j) sums[k][j] = _mm512_dpbusd_epi32(sums[k][j], each, read[j]);
            }
        }
    for (int k = 0; k < WINDOWS_ * DIGITS; ++k)
        for (int j = 0; j < 2; ++j) {
            const __m512i sum = _mm512_sub_epi32(sums[k][j], _mm512_maskz_slli_epi32(0xffff, lift[j], 7));
            memcpy(out + k * WIDE + j * LANES, &sum, sizeof sum);
        }
}

// Add the sums of a part, [window, digit, WIDE], times their scales to a block, [windows][vectors].
TILED static void add_sums(
    const int32_t *sums, const float *scales, const float *exponents, int windows, int vectors, V *block
) {
    for (int j = 0; j < vectors; ++j) {
        // A product of number and scale may be beyond the largest float where the result is not.
        const __m512 scale = (__m512)load(scales + j * LANES);
        const V exponent = (V)_mm512_maskz_getexp_ps(0xffff, scale);
        const V factor = (V)_mm512_maskz_getmant_ps(0xffff, scale, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
        for (int i = 0; i < windows; ++i) {
            const int32_t *sum = sums + i * DIGITS * WIDE + j * LANES;
            V total = zero();
            for (int64_t digit = DIGITS - 1; digit >= 0; --digit) {
                I numbers;
                memcpy(&numbers, sum + digit * WIDE, sizeof numbers);
                total = fused(total, all(256.0f), __builtin_convertvector(numbers, V));
            }
            block[i * vectors + j] += times_power(total * factor, exponent + all(exponents[i]));
        }
    }
}

// A panel with the windows from `first` on of those in the room, at most MOST_WINDOWS.
TILED static void int8_block(
    const Operation &op, const Int8Work &work, int64_t panel, int64_t first, int64_t windows, bool few, Fetched fetched,
    Place at
) {
    alignas(64) int32_t sums[MOST_WINDOWS * DIGITS * WIDE];
    V block[MOST_WINDOWS * 2];
    Place places[MOST_WINDOWS];
    const int64_t column = panel * WIDE;
    const int vectors = op.columns - column > LANES ? 2 : 1;
    for (int64_t i = 0; i < windows; ++i, at = after(at, op.rows)) {
        places[i] = at;
        const float *start = op.start ? op.start + at.stream * op.start_stream + at.row * op.start_row : op.bias;
        for (int j = 0; j < vectors; ++j) block[i * vectors + j] = start ? load(start + column + j * LANES) : zero();
    }
    const int8_t *part = work.panels + panel * work.panel_bytes(), *digits = work.tile_of(first);
    for (int64_t depth = 0; depth < work.depth; depth += work.scaled, part += work.part_bytes()) {
        const int8_t *here = digits + depth * TILE_BYTES;
        if (windows > WINDOWS) multiply<true>(here, work.depth * TILE_BYTES, part, work.scaled, fetched, sums);
        else if (few && windows == 1) multiply_few<1>(here, part, work.scaled, sums);
        else if (few) multiply_few<FEW>(here, part, work.scaled, sums);
        else multiply<false>(here, 0, part, work.scaled, fetched, sums);
        const float *scales = (const float *)(part + work.scaled * 2 * TILE_BYTES);
        add_sums(sums, scales, work.exponents + first, (int)windows, vectors, block);
        fetched.from += work.scaled * fetched.bytes;
    }
    finish_block(op, places, column, block, (int)windows, vectors);
}

// A panel with all windows in the room. Several blocks find its weights in a cache but for the first one, and share in
// fetching the next panel.
static void int8_panel(const Operation &op, const Int8Work &work, int64_t panel, const Room &room) {
    const int64_t tiles = (room.rows + WINDOWS - 1) / WINDOWS, blocks = (tiles + 1) / 2;
    const int8_t *next = work.panels + (panel + 1) * work.panel_bytes();
    const int64_t bytes = blocks > 1 ? (2 * TILE_BYTES / blocks + 63) / 64 * 64 : 0;
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t first = tiles * b / blocks * WINDOWS, end = tiles * (b + 1) / blocks * WINDOWS;
        const int64_t windows = (end < room.rows ? end : room.rows) - first;
        const Fetched fetched = {next + b * bytes * work.depth, bytes, blocks == 1};
        int8_block(op, work, panel, first, windows, room.rows <= FEW, fetched, place_of(room.first + first, op.rows));
    }
}

// Some of the panels, with the rows of the result from `first` up to `end`. again: as for panels_of.
TILED static void int8_product(
    const Operation &op, int64_t first, int64_t end, int64_t from, int64_t to, int64_t again, Room &room
) {
    const Int8Work work(op, room);
    const bool tiled = end - first > FEW;
    if (tiled) set_tiles();
    for (; first < end; first += room.rows) {
        const int64_t rows = end - first < op.halves_rows ? end - first : op.halves_rows;
        if (room.rows != rows || room.first != first) fill_digits(op, first, rows, work, room);
        for (int64_t i = from; i < to; ++i) int8_panel(op, work, again % 2 ? from + to - 1 - i : i, room);
    }
    if (tiled) _tile_release();
}
#else
static void in_tiles(const Tiles &) {}
static void int8_product(const Operation &, int64_t, int64_t, int64_t, int64_t, int64_t, Room &) {}
#endif
