// Operations of single rows, and of windows of each channel by itself.
#pragma once

#include <math.h>

#include "results.h"

static inline const float *window_at(const Operation &op, Place at) {
    const Segment &segment = op.segments[0];
    return segment.first + at.stream * segment.stream + at.row * segment.row;
}

// The rows of the input, whose memory ends where its last row does. Rows without gaps are copied as one.
static void copy_input(const Operation &op, const Call &call, int64_t batch) {
    bool gaps = call.x_row != op.columns;
    for (int64_t i = 0; i < op.target_count; ++i)
        gaps |= op.targets[i].row != op.columns || op.targets[i].activation == SNAKE;
    Operation all = op;
    if (!gaps) all.rows = 1, all.columns = op.rows * op.columns;
    for (Place at = {0, 0}; at.stream < batch; at = after(at, all.rows)) {
        const float *row = call.x + at.stream * call.x_stream + at.row * call.x_row;
        for (int64_t column = 0; column < all.columns; column += LANES) {
            const int64_t left = all.columns - column;
            finish(all, at, column, left >= LANES ? load(row + column) : load_some(row + column, left));
        }
    }
}

static void copy(const Operation &op, Range part) {
    for (Place at = part.first; before(at, part.end); at = after(at, op.rows)) finish_row(op, at, window_at(op, at));
}

// weights: [taps, columns, filled up to whole vectors]; bias likewise.
static void depthwise(const Operation &op, Range part) {
    const int64_t width = (op.columns + LANES - 1) / LANES * LANES;
    for (Place at = part.first; before(at, part.end); at = after(at, op.rows)) {
        const float *window = window_at(op, at);
        for (int64_t column = 0; column < op.columns; column += LANES) {
            V total = op.bias ? load(op.bias + column) : zero();
            for (int64_t tap = 0; tap < op.taps; ++tap)
                total = fused(load(window + tap * op.tap + column), load(op.weights + tap * width + column), total);
            finish(op, at, column, total);
        }
    }
}

// The first half of a row through SiLU, times the second half.
static void gated_silu(const Operation &op, Range part) {
    for (Place at = part.first; before(at, part.end); at = after(at, op.rows)) {
        const float *gate = window_at(op, at), *value = gate + op.columns;
        for (int64_t column = 0; column < op.columns; column += LANES)
            finish(op, at, column, silu(load(gate + column)) * load(value + column));
    }
}

// 64 bits that depend on all bits of a number, and a normal number of them: streamcodec/noise.py, which has the sources.
static uint64_t mixed(uint64_t number) {
    uint64_t bits = (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return bits ^ bits >> 31;
}

static double normal_at(int64_t seed, int64_t place) {
    const uint64_t bits = mixed(mixed((uint64_t)place) + (uint64_t)seed);
    const double first = ((double)(bits >> 32) + 0.5) * 0x1p-32;
    const double angle = (double)(bits & 0xffffffff) * 0x1.921fb54442d18p-30;  // 2 pi
    return sqrt(log(first) * -2.0) * cos(angle);
}

// Each row times the number of its place in the signal.
static void noise(const Operation &op, int64_t batch) {
    for (Place at = {0, 0}; at.stream < batch; at = after(at, op.rows)) {
        int64_t *heard = op.heard + 2 * at.stream;
        const V number = all((float)normal_at(op.seed, heard[0] + at.row - op.lag));
        const float *row = window_at(op, at);
        for (int64_t column = 0; column < op.columns; column += LANES) finish(op, at, column, load(row + column) * number);
        heard[1] = heard[0] + op.rows;
    }
}

// numbers: epsilon.
static void normalise(const Operation &op, Range part) {
    for (Place at = part.first; before(at, part.end); at = after(at, op.rows)) {
        const float *row = window_at(op, at);
        V squares = zero();
        int64_t column = 0;
        for (; column + LANES <= op.columns; column += LANES) {
            const V x = load(row + column);
            squares = fused(x, x, squares);
        }
        if (column < op.columns) {
            const V x = load_some(row + column, op.columns - column);
            squares = fused(x, x, squares);
        }
        const V factor = all(1.0f / sqrtf(sum(squares) / (float)op.columns + op.numbers[0]));
        for (column = 0; column < op.columns; column += LANES)
            finish(op, at, column, load(row + column) * factor * load(op.weights + column));
    }
}

// numbers: epsilon. The mean is taken off before squares are summed: a large one would leave nothing of the variance.
static void layer_norm(const Operation &op, Range part) {
    for (Place at = part.first; before(at, part.end); at = after(at, op.rows)) {
        const float *row = window_at(op, at);
        V total = zero(), squares = zero();
        for (int64_t column = 0; column < op.columns; column += LANES) total += up_to(row + column, op.columns - column);
        const float mean = sum(total) / (float)op.columns;
        for (int64_t column = 0; column < op.columns; column += LANES) {
            const int64_t left = op.columns - column;
            V x = load(row + column) - all(mean);
            if (left < LANES) x = up_to((const float *)&x, left);
            squares = fused(x, x, squares);
        }
        const V factor = all(1.0f / sqrtf(sum(squares) / (float)op.columns + op.numbers[0]));
        for (int64_t column = 0; column < op.columns; column += LANES) {
            const V x = (load(row + column) - all(mean)) * factor;
            finish(op, at, column, fused(x, load(op.weights + column), load(op.bias + column)));
        }
    }
}

// Cosines and sines of a spectrum to those at level 1/2 in each band, and the bands' levels, as logarithms
// (streamcodec/nn/bands.py). numbers: the power that counts as none; what is added to a level, and divided by.
static void band_features(const Operation &op, int64_t batch) {
    const int64_t bins = op.bands[op.band_count];
    float *row = op.row;
    for (Place at = {0, 0}; at.stream < batch; at = after(at, op.rows)) {
        const float *cosines = window_at(op, at), *sines = cosines + bins;
        for (int64_t band = 0; band < op.band_count; ++band) {
            const int64_t first = op.bands[band], end = op.bands[band + 1];
            float power = 0.0f;
            for (int64_t bin = first; bin < end; ++bin)
                power += cosines[bin] * cosines[bin] + sines[bin] * sines[bin];
            power = power / (2.0f * (float)(end - first)) + op.numbers[0];
            const float level = 0.5f / sqrtf(power);
            for (int64_t bin = first; bin < end; ++bin) {
                row[bin] = cosines[bin] * level;
                row[bins + bin] = sines[bin] * level;
            }
            row[2 * bins + band] = (0.5f * logf(power) + op.numbers[1]) / op.numbers[2];
        }
        finish_row(op, at, row);
    }
}

// A spectrum and the logarithms of its bands' gains to the spectrum. numbers: the factor of a logarithm, what is taken
// off it, and its least and most.
static void band_gains(const Operation &op, int64_t batch) {
    const int64_t bins = op.bands[op.band_count];
    float *row = op.row;
    for (Place at = {0, 0}; at.stream < batch; at = after(at, op.rows)) {
        const float *spectrum = window_at(op, at), *gains = spectrum + bins;
        for (int64_t band = 0; band < op.band_count; ++band) {
            float level = op.numbers[0] * gains[band] - op.numbers[1];
            level = level < op.numbers[2] ? op.numbers[2] : level;
            const float gain = expf(level > op.numbers[3] ? op.numbers[3] : level);
            for (int64_t bin = op.bands[band]; bin < op.bands[band + 1]; ++bin) row[bin] = spectrum[bin] * gain;
        }
        finish_row(op, at, row);
    }
}
