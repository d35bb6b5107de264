// Windows times a matrix in bfloat16, on tiles (AMX): values and weights are rounded to bfloat16, products are exact, and
// sums are float32, each in one order. So here too a value does not depend on its neighbours.
//
// The matrix lies in panels of WIDE columns, two tiles; a panel holds its rows DEEP at a time, first those of the first
// tile; a tile holds pairs of rows, [pair, column, 2]. It ends with zeros.
//
// Rounded are the rows of the buffers, once each, and windows are read where they lie among them. Where a window's rows
// fill no whole tiles, or streams have few rows, the windows are rounded instead, side by side.
#pragma once

#include "product.h"

#if defined(STREAMCODEC_avx512) && defined(__linux__) && (__GNUC__ >= 12 || __clang_major__ >= 13)
#define HAS_TILES 1
#define TILED __attribute__((target("amx-tile,amx-bf16,avx512bf16")))
#else
#define HAS_TILES 0
#endif

// Rows of a tile; columns of a panel, two tiles; values of a window that two tiles multiply at once.
static constexpr int64_t TILE = 16, WIDE = 32, DEEP = 32;

#if HAS_TILES
// Rounded to the nearest, ties to even; NaN stays NaN.
TILED static inline __m256i half(V x) { return (__m256i)_mm512_cvtneps_pbh((__m512)x); }

// Values side by side, of which `to` has room to the end of the last vector: [count].
TILED static void halve(const float *from, uint16_t *to, int64_t count) {
    for (int64_t k = 0; k < count; k += LANES) {
        const __m256i value = half(up_to(from + k, count - k));
        memcpy(to + k, &value, sizeof value);
    }
}

// The window of a row, side by side, with zeros to the end of the last tile: [width].
TILED static void halve_window(const Operation &op, Place at, uint16_t *to, int64_t width) {
    int64_t done = 0;
    for (int64_t s = 0; s < op.segment_count; ++s) {
        const Segment &segment = op.segments[s];
        // What is written beyond the end of a segment is written again by the next one, or by zeros.
        halve(segment.first + at.stream * segment.stream + at.row * segment.row, to + done, segment.width);
        done += segment.width;
    }
    memset(to + done, 0, (width - done) * sizeof(uint16_t));
}

TILED static void set_tiles() {
    alignas(64) uint8_t how[64] = {1};
    for (int tile = 0; tile < 8; ++tile) {
        how[16 + 2 * tile] = 64;
        how[48 + tile] = TILE;
    }
    _tile_loadconfig(how);
}

// Rows of the result, of one stream where windows are read where they lie; and the halves that they are made of.
struct Piece {
    Place first;
    int64_t rows;
    const uint16_t *halves;
};

// A part of the windows of a piece: `width` values, of the next row `row` values further.
struct Stretch {
    const uint16_t *first;
    int64_t row, width;
};

// The most pieces that are multiplied at once, and stretches of a window.
static constexpr int PIECES = 64, STRETCHES = 64;

// Up to two tiles of rows times a panel: [2 * TILE, WIDE].
TILED static void tiles(
    const Stretch *stretches, int64_t count, int64_t row, bool two, const uint16_t *weights, float *out
) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (const Stretch *end = stretches + count; stretches < end; ++stretches) {
        const uint16_t *rows = stretches->first + row * stretches->row, *low = rows + TILE * stretches->row;
        const int64_t step = stretches->row * sizeof(uint16_t);
        for (int64_t k = 0; k < stretches->width; k += DEEP, weights += DEEP * WIDE) {
            for (int64_t line = 0; line < DEEP * WIDE; line += 32)
                __builtin_prefetch(weights + 4 * DEEP * WIDE + line, 0, 3);
            _tile_loadd(6, weights, 64);
            _tile_loadd(7, weights + DEEP * TILE, 64);
            _tile_loadd(4, rows + k, step);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (two) {
                _tile_loadd(5, low + k, step);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    _tile_stored(0, out, WIDE * sizeof(float));
    _tile_stored(1, out + TILE, WIDE * sizeof(float));
    if (two) {
        _tile_stored(2, out + TILE * WIDE, WIDE * sizeof(float));
        _tile_stored(3, out + TILE * WIDE + TILE, WIDE * sizeof(float));
    }
}

// The windows of a piece, where they lie in the halves of the rows of their buffers; returns how many stretches.
static int stretches_of(const Operation &op, const Piece &piece, int64_t width, Stretch *to) {
    if (!op.source_count) {
        to[0] = {piece.halves, width, width};
        return 1;
    }
    int count = 0;
    const uint16_t *halves = piece.halves;
    for (int64_t s = 0; s < op.source_count; ++s) {
        const Source &source = op.sources[s];
        const int64_t row = source.stride * source.channels, together = source.dilation == 1 ? source.taps : 1;
        for (int64_t tap = 0; tap < source.taps; tap += together)
            to[count++] = {halves + tap * source.dilation * source.channels, row, together * source.channels};
        halves += source_rows(source, piece.rows) * source.channels;
    }
    return count;
}

// Make the halves of a piece; returns where those of the next one begin.
static uint16_t *halve_piece(const Operation &op, const Piece &piece, int64_t width, uint16_t *to) {
    if (!op.source_count) {
        Place at = piece.first;
        for (int64_t i = 0; i < piece.rows; ++i, at = after(at, op.rows), to += width) halve_window(op, at, to, width);
        return to;
    }
    for (int64_t s = 0; s < op.source_count; ++s) {
        const Source &source = op.sources[s];
        const int64_t count = source_rows(source, piece.rows) * source.channels;
        const int64_t row = source.stride * source.channels;
        halve(source.first + piece.first.stream * source.stream + piece.first.row * row, to, count);
        to += count;
    }
    return to;
}

// Columns of the result from `column` on, in whole panels, of up to two tiles of rows from row `row` of a piece on: all
// are made before the first is written, so that rows are written from end to end.
template <int PANELS>
TILED static void low_block(
    const Operation &op, const Piece &piece, const Stretch *stretches, int count, int64_t width, int64_t row, int64_t column
) {
    alignas(64) float sums[2 * TILE * WIDE];
    V block[2 * TILE * 2 * PANELS];
    Place places[2 * TILE];
    const int64_t left = piece.rows - row, here = left < 2 * TILE ? left : 2 * TILE;
    const int64_t end = column + PANELS * WIDE < op.columns ? column + PANELS * WIDE : op.columns;
    const int64_t vectors = (end - column + LANES - 1) / LANES;
    for (int64_t first = column; first < end; first += WIDE) {
        tiles(stretches, count, row, here > TILE, op.low_weights + first * width, sums);
        const int64_t done = (first - column) / LANES, most = vectors - done < 2 ? vectors - done : 2;
        for (int64_t r = 0; r < here; ++r)
            for (int64_t j = 0; j < most; ++j) {
                const V bias = op.bias ? load(op.bias + first + j * LANES) : zero();
                block[r * vectors + done + j] = load(sums + r * WIDE + j * LANES) + bias;
            }
    }
    Place next = place_of(piece.first.stream * op.rows + piece.first.row + row, op.rows);
    for (int64_t r = 0; r < here; ++r, next = after(next, op.rows)) places[r] = next;
    finish_block(op, places, column, block, (int)here, (int)vectors);
}

// Some columns of a piece.
template <int PANELS>
static void low_columns(const Operation &op, const Piece &piece, int64_t width, int64_t column) {
    Stretch stretches[STRETCHES];
    const int count = stretches_of(op, piece, width, stretches);
    for (int64_t row = 0; row < piece.rows; row += 2 * TILE)
        low_block<PANELS>(op, piece, stretches, count, width, row, column);
}

// The rows of the result from `next` on, of at most `rows`, that are multiplied at once; returns how many pieces.
static int next_pieces(const Operation &op, Place next, int64_t rows, int64_t width, Piece *pieces) {
    uint16_t *halves = op.halves;
    int count = 0;
    while (rows > 0 && count < PIECES) {
        const int64_t left = op.rows - next.row, here = op.source_count && left < rows ? left : rows;
        pieces[count] = {next, here, halves};
        halves = halve_piece(op, pieces[count++], width, halves);
        rows -= here;
        next = {next.stream + 1, 0};
    }
    return count;
}

// The panels that are made of a row before it is written, where a cache holds the weights.
static constexpr int SIDE_BY_SIDE = 12;

TILED static void low_product(const Operation &op, Place next, int64_t count) {
    const int64_t width = (window_width(op) + DEEP - 1) / DEEP * DEEP;
    const bool whole = op.columns <= SIDE_BY_SIDE * WIDE && width * op.columns <= 2 * HELD;
    Piece pieces[PIECES];
    set_tiles();
    while (count > 0) {
        const int found = next_pieces(op, next, count < op.halves_rows ? count : op.halves_rows, width, pieces);
        for (int64_t column = 0; column < op.columns; column += (whole ? SIDE_BY_SIDE : 1) * WIDE)
            for (int p = 0; p < found; ++p) {
                if (whole) low_columns<SIDE_BY_SIDE>(op, pieces[p], width, column);
                else low_columns<1>(op, pieces[p], width, column);
            }
        for (int p = 0; p < found; ++p) {
            count -= pieces[p].rows;
            next = place_of(next.stream * op.rows + next.row + pieces[p].rows, op.rows);
        }
    }
    _tile_release();
}
#endif
