// The quantizers' arithmetic. As in product.h, every sum is one chain in the order of the matrix's rows, so that a row's
// result does not depend on those beside it. Matrices lie as in torch, or in strips of columns, one after the other.
#pragma once

#include <math.h>

#include "product.h"

static constexpr int STRIP = PANEL * LANES;  // columns

// A strip of a matrix: its rows are `line` apart, `left` of its columns are there, and the next one is `next` further.
// Number: float or Half.
template <typename Number>
struct Strip {
    const Number *weight;
    int64_t line, left, next;
};

// Add x[i] * weight, over the rows of a strip.
template <int ROWS_, bool WHOLE, typename Number>
static inline void multiply(const float *const *x, Strip<Number> strip, int64_t inputs, V (&sums)[ROWS_][PANEL]) {
    constexpr int EACH = sizeof(float) / sizeof(Number);  // numbers in the room of a float
    const Number *weight = strip.weight;
    for (int64_t k = 0; k < inputs; ++k, weight += strip.line) {
        V w[PANEL];
#pragma GCC unroll 4
        for (int j = 0; j < PANEL; ++j) {
            if constexpr (WHOLE) w[j] = load(weight + j * LANES);
            else w[j] = up_to(weight + j * LANES, strip.left - j * LANES);
            if (WHOLE && j % EACH == 0) __builtin_prefetch(weight + strip.next + j * LANES, 0, 2);
            if (WHOLE && ROWS_ <= 8 && j % EACH == 0) __builtin_prefetch(weight + (j + NEAR * EACH) * LANES);
        }
#pragma GCC unroll 14
        for (int i = 0; i < ROWS_; ++i) {
            const V value = all(x[i][k]);
#pragma GCC unroll 4
            for (int j = 0; j < PANEL; ++j) sums[i][j] = fused(value, w[j], sums[i][j]);
        }
    }
}

template <int ROWS_, bool WHOLE>
static void affine_strip(const Affine &of, int64_t row, int64_t column) {
    const int64_t left = of.outputs - column;
    V sums[ROWS_][PANEL];
    const float *x[ROWS_];
    for (int i = 0; i < ROWS_; ++i) {
        x[i] = of.x + (row + i) * of.inputs;
        for (int j = 0; j < PANEL; ++j) sums[i][j] = of.bias ? up_to(of.bias + column + j * LANES, left - j * LANES) : zero();
    }
    multiply<ROWS_, WHOLE>(x, Strip<float>{of.weight + column, of.outputs, left, STRIP}, of.inputs, sums);
    for (int i = 0; i < ROWS_; ++i)
        for (int j = 0; j < PANEL; ++j)
            put_up_to(of.out + (row + i) * of.outputs + column + j * LANES, sums[i][j], left - j * LANES);
}

// The best scores so far, and where, in each lane.
struct Best {
    V score;
    I index;
};

static inline int64_t first_of(const Best &best) {
    int lane = 0;
    for (int other = 1; other < LANES; ++other) {
        const bool higher = best.score[other] > best.score[lane];
        const bool earlier = best.score[other] == best.score[lane] && best.index[other] < best.index[lane];
        if (higher || earlier) lane = other;
    }
    return best.index[lane];
}

template <int ROWS_, bool WHOLE>
static void search_rows(const Search &of, int64_t stage, int64_t row, int64_t column, Best *best) {
    const int64_t left = of.size - column;
    const int64_t place = stage * of.scan_stage + column / STRIP * of.strip;
    const float *x[ROWS_];
    const float *half_norms = of.half_norms ? of.half_norms + stage * of.size + column : nullptr;
    I lanes;
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
    V sums[ROWS_][PANEL];
    for (int i = 0; i < ROWS_; ++i) {
        x[i] = of.values + (row + i) * of.width + stage * of.step;
        for (int j = 0; j < PANEL; ++j)
            sums[i][j] = half_norms ? -up_to(half_norms + j * LANES, left - j * LANES) : zero();
    }
    if (HAS_HALVES && of.halves)
        multiply<ROWS_, true>(x, Strip<Half>{of.halves + place, of.line, left, of.strip}, of.dimension, sums);
    else multiply<ROWS_, WHOLE>(x, Strip<float>{of.scan + place, of.line, left, of.strip}, of.dimension, sums);
    for (int i = 0; i < ROWS_; ++i)
        for (int j = 0; j < PANEL; ++j) {
            const I index = lanes + (int32_t)(column + j * LANES);
            const I better = (sums[i][j] > best[i].score) & (index < (int32_t)of.size);
            best[i].score = better ? sums[i][j] : best[i].score;
            best[i].index = better ? index : best[i].index;
        }
}

// Take what entry `code` of a stage stands for off the values of a row.
static inline void take_off(const Search &of, int64_t stage, int64_t code, float *values) {
    const float *entry = of.entries + (stage * of.size + code) * of.dimension;
    if (!of.cross) {
        for (int64_t k = 0; k < of.dimension; k += LANES) {
            const int64_t left = of.dimension - k;
            put_up_to(values + k, up_to(values + k, left) - up_to(entry + k, left), left);
        }
        return;
    }
    const float *cross = of.cross + stage * of.dimension * of.width;
    for (int64_t column = (stage + 1) * of.step; column < of.width; column += LANES) {
        const int64_t left = of.width - column;
        V value = up_to(values + column, left);
        for (int64_t k = 0; k < of.dimension; ++k)
            value = fused(all(-entry[k]), up_to(cross + k * of.width + column, left), value);
        put_up_to(values + column, value, left);
    }
}

template <int ROWS_>
static void affine_rows(const Affine &of, int64_t row) {
    int64_t column = 0;
    for (; column + STRIP <= of.outputs; column += STRIP) affine_strip<ROWS_, true>(of, row, column);
    if (column < of.outputs) affine_strip<ROWS_, false>(of, row, column);
}

// A block of `rows` rows, of at most as many as ROWS_ says. A row's values are the same in any block.
template <int ROWS_>
static void search_block(const Search &of, int64_t stage, int64_t row, int rows, int64_t column, Best *best) {
    if constexpr (ROWS_ > 1) {
        if (rows < ROWS_) return search_block<ROWS_ - 1>(of, stage, row, rows, column, best);
    }
    if (of.filled || column + STRIP <= of.size) search_rows<ROWS_, true>(of, stage, row, column, best);
    else search_rows<ROWS_, false>(of, stage, row, column, best);
}

template <int ROWS_>
static void affine_block(const Affine &of, int64_t row) {
    if constexpr (ROWS_ > 1) {
        if (of.rows - row < ROWS_) return affine_block<ROWS_ - 1>(of, row);
    }
    affine_rows<ROWS_>(of, row);
}

// Rows that go through a strip together, in several blocks: while it is in a cache.
static constexpr int64_t SEARCHED = GROUP * ROWS[PANEL];

static void search_stage(const Search &of, int64_t stage, int64_t row, int64_t count) {
    Best best[SEARCHED];
    for (int64_t i = 0; i < count; ++i) best[i] = {all(-INFINITY), I{}};
    const int64_t blocks = (count + ROWS[PANEL] - 1) / ROWS[PANEL];
    for (int64_t column = 0; column < of.size; column += STRIP)
        for (int64_t b = 0; b < blocks; ++b) {
            const int64_t first = count * b / blocks;
            const int rows = (int)(count * (b + 1) / blocks - first);
            search_block<ROWS[PANEL]>(of, stage, row + first, rows, column, best + first);
        }
    for (int64_t i = 0; i < count; ++i) {
        const int64_t code = first_of(best[i]);
        of.codes[(row + i) * of.stages + stage] = code;
        if (stage + 1 < of.stages) take_off(of, stage, code, of.values + (row + i) * of.width);
    }
}

static void search(const Search &of) {
    if (of.given) memcpy(of.values, of.given, of.rows * of.width * sizeof(float));
    for (int64_t row = 0; row < of.rows; row += SEARCHED) {
        const int64_t left = of.rows - row, count = left < SEARCHED ? left : SEARCHED;
        for (int64_t stage = 0; stage < of.stages; ++stage) search_stage(of, stage, row, count);
    }
}

static void affine(const Affine &of) {
    for (int64_t row = 0; row < of.rows; row += ROWS[PANEL]) affine_block<ROWS[PANEL]>(of, row);
}

// From the first stage to the last, beginning at 0: the reference's bits.
static void lookup(const Lookup &of) {
    const int64_t *codes = of.codes;
    for (int64_t row = 0; row < of.rows; ++row, codes += of.stages)
        for (int64_t column = 0; column < of.dimension; column += LANES) {
            const int64_t left = of.dimension - column;
            V total = zero();
            for (int64_t stage = 0; stage < of.stages; ++stage)
                if (codes[stage] >= 0 && codes[stage] < of.size)
                    total += up_to(of.entries + (stage * of.size + codes[stage]) * of.dimension + column, left);
            put_up_to(of.out + row * of.dimension + column, total, left);
        }
}
