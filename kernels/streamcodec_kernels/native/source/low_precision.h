// Windows times a matrix in bfloat16, on tiles (AMX): values and weights are rounded to bfloat16, products are exact, and
// sums are float32, each in one order. So here too a value does not depend on its neighbours.
//
// The matrix lies in panels of WIDE columns, two tiles; a panel holds its rows DEEP at a time, first those of the first
// tile; a tile holds pairs of rows, [pair, column, 2]. It ends with zeros.
#pragma once

#include "product.h"

#if defined(STREAMCODEC_avx512) && defined(__linux__) && (__GNUC__ >= 12 || __clang_major__ >= 13)
#define HAS_TILES 1
#define TILED __attribute__((target("amx-tile,amx-bf16")))
#else
#define HAS_TILES 0
#endif

// Rows of a tile; columns of a panel, two tiles; values of a window that two tiles multiply at once.
static constexpr int64_t TILE = 16, WIDE = 32, DEEP = 32;

#if HAS_TILES
// Rounded to the nearest, ties to even; NaN stays NaN.
static inline __m256i half(V x) {
    typedef uint32_t U __attribute__((vector_size(4 * LANES)));
    const U value = (U)x, rounded = value + 0x7fff + (value >> 16 & 1);
    return _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)((x == x ? rounded : value | 0x00400000) >> 16));
}

// The window of a row, side by side, with zeros to the end of the last tile: [width].
static void halve(const Operation &op, Place at, uint16_t *to, int64_t width) {
    int64_t done = 0;
    for (int64_t s = 0; s < op.segment_count; ++s) {
        const Segment &segment = op.segments[s];
        const float *from = segment.first + at.stream * segment.stream + at.row * segment.row;
        // Whole vectors: what is written beyond the end of a segment is written again by the next one, or by zeros.
        for (int64_t k = 0; k < segment.width; k += LANES) {
            const __m256i value = half(up_to(from + k, segment.width - k));
            memcpy(to + done + k, &value, sizeof value);
        }
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

// Up to two tiles of rows, `width` values apart, times a panel: [2 * TILE, WIDE].
TILED static void tiles(const uint16_t *rows, bool two, const uint16_t *weights, int64_t width, float *out) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const uint16_t *low = rows + TILE * width;
    for (int64_t k = 0; k < width; k += DEEP, weights += DEEP * WIDE) {
        for (int64_t line = 0; line < DEEP * WIDE; line += 32) __builtin_prefetch(weights + 4 * DEEP * WIDE + line, 0, 3);
        _tile_loadd(6, weights, 64);
        _tile_loadd(7, weights + DEEP * TILE, 64);
        _tile_loadd(4, rows + k, width * sizeof(uint16_t));
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (two) {
            _tile_loadd(5, low + k, width * sizeof(uint16_t));
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, out, WIDE * sizeof(float));
    _tile_stored(1, out + TILE, WIDE * sizeof(float));
    if (two) {
        _tile_stored(2, out + TILE * WIDE, WIDE * sizeof(float));
        _tile_stored(3, out + TILE * WIDE + TILE, WIDE * sizeof(float));
    }
}

TILED static void low_product(const Operation &op, int64_t batch) {
    const int64_t width = (window_width(op) + DEEP - 1) / DEEP * DEEP, count = batch * op.rows, group = op.halves_rows;
    uint16_t *halves = op.halves;
    alignas(64) float sums[2 * TILE * WIDE];
    Place places[2 * TILE], first = {0, 0};
    set_tiles();
    for (int64_t done = 0; done < count; done += group) {
        const int64_t rows = count - done < group ? count - done : group;
        Place at = first;
        for (int64_t i = 0; i < rows; ++i, at = after(at, op.rows)) halve(op, at, halves + i * width, width);
        for (int64_t column = 0; column < op.columns; column += WIDE) {
            const uint16_t *weights = op.low_weights + column * width;
            const int vectors = op.columns - column > TILE ? 2 : 1;
            Place next = first;
            for (int64_t i = 0; i < rows; i += 2 * TILE) {
                const int64_t here = rows - i < 2 * TILE ? rows - i : 2 * TILE;
                tiles(halves + i * width, here > TILE, weights, width, sums);
                V block[2 * TILE][2];
                for (int64_t r = 0; r < here; ++r, next = after(next, op.rows)) {
                    places[r] = next;
                    for (int j = 0; j < vectors; ++j) {
                        const V bias = op.bias ? load(op.bias + column + j * LANES) : zero();
                        (&block[0][0])[r * vectors + j] = load(sums + r * WIDE + j * LANES) + bias;
                    }
                }
                finish_block(op, places, column, &block[0][0], (int)here, vectors);
            }
        }
        first = at;
    }
    _tile_release();
}
#endif
