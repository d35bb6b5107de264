// Windows times a matrix.
//
// The matrix lies in panels: of PANEL vectors of columns each, the last one of as many as are left, and a panel holds
// its rows one after the other. A block of rows of the windows is multiplied with one panel in registers. Every value
// of the result is one chain of fused products, in the order of the matrix's rows, whatever block it is in: so it has
// the same bits in a step of any size and beside any neighbours.
#pragma once

#include "results.h"

// Rows of the result that are made at once, by vectors of the panel: their sums, a row of the panel and one value of
// the windows fill the registers.
#if defined(STREAMCODEC_avx512) || defined(STREAMCODEC_neon)
static constexpr int ROWS[] = {0, 14, 12, 8, 6};
#elif defined(STREAMCODEC_avx2)
static constexpr int ROWS[] = {0, 10, 6};
#else
static constexpr int ROWS[] = {0, 8, 4};
#endif
static constexpr int MOST_ROWS = 14;

// How far ahead of their use the weights are fetched: rows of the panel.
static constexpr int AHEAD = 16;

__attribute__((noinline)) static void finish_block(
    const Operation &op, const Place *places, int64_t column, const V *sums, int rows, int vectors
) {
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < vectors; ++j) finish(op, places[i], column + j * LANES, sums[i * vectors + j]);
}

template <int ROWS_, int VECTORS>
static void block(const Operation &op, const float *weights, int64_t column, const Place *places) {
    V sums[ROWS_][VECTORS];
    for (int i = 0; i < ROWS_; ++i)
        for (int j = 0; j < VECTORS; ++j) {
            const int64_t first = column + j * LANES;
            if (op.start)
                sums[i][j] = load(op.start + places[i].stream * op.start_stream + places[i].row * op.start_row + first);
            else sums[i][j] = op.bias ? load(op.bias + first) : zero();
        }
    for (int64_t s = 0; s < op.segment_count; ++s) {
        const Segment &segment = op.segments[s];
        const float *window[ROWS_];
        for (int i = 0; i < ROWS_; ++i)
            window[i] = segment.first + places[i].stream * segment.stream + places[i].row * segment.row;
        for (int64_t k = 0; k < segment.width; ++k) {
            V w[VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) {
                w[j] = load(weights + j * LANES);
                if (VECTORS > 1 && ROWS_ <= 8) __builtin_prefetch(weights + (j + AHEAD * VECTORS) * LANES);
            }
            weights += VECTORS * LANES;
#pragma GCC unroll 14
            for (int i = 0; i < ROWS_; ++i) {
                const V x = all(window[i][k]);
#pragma GCC unroll 4
                for (int j = 0; j < VECTORS; ++j) sums[i][j] = fused(x, w[j], sums[i][j]);
            }
        }
    }
    finish_block(op, places, column, &sums[0][0], ROWS_, VECTORS);
}

// The block of `rows` rows, of at most as many as ROWS_ says.
template <int ROWS_, int VECTORS>
static void block_of(int rows, const Operation &op, const float *weights, int64_t column, const Place *places) {
    if constexpr (ROWS_ > 1) {
        if (rows < ROWS_) return block_of<ROWS_ - 1, VECTORS>(rows, op, weights, column, places);
    }
    block<ROWS_, VECTORS>(op, weights, column, places);
}

// One panel with all rows, in blocks of about the same size.
template <int VECTORS>
static void panel(const Operation &op, const float *weights, int64_t column, int64_t count) {
    Place places[MOST_ROWS], next = {0, 0};
    while (count > 0) {
        const int64_t blocks = (count + ROWS[VECTORS] - 1) / ROWS[VECTORS];
        const int rows = (int)((count + blocks - 1) / blocks);
        for (int i = 0; i < rows; ++i, next = after(next, op.rows)) places[i] = next;
        block_of<ROWS[VECTORS], VECTORS>(rows, op, weights, column, places);
        count -= rows;
    }
}

static int64_t window_width(const Operation &op) {
    int64_t width = 0;
    for (int64_t s = 0; s < op.segment_count; ++s) width += op.segments[s].width;
    return width;
}

static void product(const Operation &op, int64_t batch) {
    const int64_t width = window_width(op), count = batch * op.rows;
    const float *weights = op.weights;
    for (int64_t column = 0; column < op.columns; column += PANEL * LANES) {
        const int64_t vectors = (op.columns - column + LANES - 1) / LANES;
        if (vectors == 1) panel<1>(op, weights, column, count);
        else if (vectors == 2 || PANEL == 2) panel<2>(op, weights, column, count);
#if PANEL == 4
        else if (vectors == 3) panel<3>(op, weights, column, count);
        else panel<4>(op, weights, column, count);
#endif
        weights += width * PANEL * LANES;
    }
}

// A product with one column: vectors along the windows. weights: [K].
static void dot(const Operation &op, int64_t batch) {
    for (Place at = {0, 0}; at.stream < batch; at = after(at, op.rows)) {
        V even = zero(), odd = zero();
        const float *weights = op.weights;
        for (int64_t s = 0; s < op.segment_count; ++s) {
            const Segment &segment = op.segments[s];
            const float *window = segment.first + at.stream * segment.stream + at.row * segment.row;
            int64_t k = 0;
            for (; k + 2 * LANES <= segment.width; k += 2 * LANES) {
                even = fused(load(window + k), load(weights + k), even);
                odd = fused(load(window + k + LANES), load(weights + k + LANES), odd);
            }
            for (; k < segment.width; k += LANES) {
                const int64_t left = segment.width - k < LANES ? segment.width - k : LANES;
                even = fused(load_some(window + k, left), load_some(weights + k, left), even);
            }
            weights += segment.width;
        }
        finish(op, at, 0, all(sum(even + odd) + (op.bias ? op.bias[0] : 0.0f)));
    }
}
