// Lapped transforms, which are products with the matrices of streamcodec/nn/lapped.py, by Fourier transforms instead.
//
// The cosines and sines of a window of two hops are the parts of one complex transform of `hop` values, each made of two
// samples that are a hop apart. With hop = inner * outer it is done in two rounds of short ones, vectors of `inner` side by
// side: reading the matrix would take a hundred times as long. streamcodec/native_lapped.py makes the tables.
#pragma once

#include "results.h"

struct Complex {
    float *real, *imaginary;
};

// Where the tables of an operation lie, one after the other, and its room.
struct Lapped {
    int64_t hop, inner, outer, line, padded;  // padded: `inner`, and line: `hop`, up to whole vectors
    Complex near, far, turn, small, twiddle, large, given, between, made;
    float *row;
};

static Complex next_table(float *&from, int64_t count) {
    const Complex table = {from, from + count};
    from += 2 * count;
    return table;
}

static Lapped lapped_of(const Operation &op) {
    Lapped of;
    of.inner = op.inner, of.outer = op.outer, of.hop = op.inner * op.outer;
    of.line = (of.hop + LANES - 1) / LANES * LANES, of.padded = (of.inner + LANES - 1) / LANES * LANES;
    float *tables = const_cast<float *>(op.weights), *room = op.row;
    of.near = next_table(tables, of.line), of.far = next_table(tables, of.line), of.turn = next_table(tables, of.line);
    of.small = next_table(tables, of.inner * of.padded), of.twiddle = next_table(tables, of.outer * of.padded);
    of.large = next_table(tables, of.outer * of.outer);
    of.given = next_table(room, of.line), of.made = next_table(room, of.line);
    of.between = next_table(room, of.outer * of.padded);
    of.row = room;
    return of;
}

// One vector of a short transform: the sum of count values, `apart` from each other, times the rows of a matrix.
static inline void short_transform(
    Complex values, int64_t first, int64_t apart, Complex matrix, int64_t line, int64_t count, V &real, V &imaginary
) {
    V rr = zero(), ii = zero(), ri = zero(), ir = zero();
    for (int64_t k = 0; k < count; ++k) {
        const V a = all(values.real[first + k * apart]), b = all(values.imaginary[first + k * apart]);
        const V c = load(matrix.real + k * line), d = load(matrix.imaginary + k * line);
        rr = fused(a, c, rr), ii = fused(b, d, ii), ri = fused(a, d, ri), ir = fused(b, c, ir);
    }
    real = rr - ii, imaginary = ri + ir;
}

// given -> made.
static void transform(const Lapped &of) {
    for (int64_t b = 0; b < of.outer; ++b)
        for (int64_t c = 0; c < of.padded; c += LANES) {
            V real, imaginary;
            const Complex small = {of.small.real + c, of.small.imaginary + c};
            short_transform(of.given, b, of.outer, small, of.padded, of.inner, real, imaginary);
            const int64_t at = b * of.padded + c;
            const V cosine = load(of.twiddle.real + at), sine = load(of.twiddle.imaginary + at);
            store(of.between.real + at, fused(real, cosine, -(imaginary * sine)));
            store(of.between.imaginary + at, fused(real, sine, imaginary * cosine));
        }
    for (int64_t d = 0; d < of.outer; ++d)
        for (int64_t c = 0; c < of.inner; c += LANES) {
            V real, imaginary;
            const Complex between = {of.between.real + c, of.between.imaginary + c};
            short_transform(of.large, d, of.outer, between, of.padded, of.outer, real, imaginary);
            put_up_to(of.made.real + d * of.inner + c, real, of.inner - c);
            put_up_to(of.made.imaginary + d * of.inner + c, imaginary, of.inner - c);
        }
}

// Which bin the value `m` of the transform is.
static inline int64_t bin_of(int64_t m, int64_t hop) { return 2 * m < hop ? 2 * m : 2 * (hop - m) - 1; }

// Windows of two hops to their cosines, and then their sines.
static void lapped(const Operation &op, int64_t batch) {
    const Lapped of = lapped_of(op);
    for (Place at = {0, 0}; at.stream < batch; at = after(at, op.rows)) {
        const float *window = op.segments[0].first + at.stream * op.segments[0].stream + at.row * op.segments[0].row;
        for (int64_t t = 0; t < of.hop; t += LANES) {
            const V x = up_to(window + t, of.hop - t), y = up_to(window + of.hop + t, of.hop - t);
            store(of.given.real + t, fused(x, load(of.near.real + t), y * load(of.far.real + t)));
            store(of.given.imaginary + t, fused(x, load(of.near.imaginary + t), y * load(of.far.imaginary + t)));
        }
        transform(of);
        for (int64_t m = 0; m < of.hop; ++m) {
            const float a = of.made.real[m], b = of.made.imaginary[m], c = of.turn.real[m], d = of.turn.imaginary[m];
            const int64_t bin = bin_of(m, of.hop);
            of.row[bin] = a * c - b * d;
            of.row[of.hop + bin] = 2 * m < of.hop ? -(a * d + b * c) : a * d + b * c;
        }
        finish_row(op, at, of.row);
    }
}

// Rows of cosines, two of them, to the hop of audio in which their windows overlap.
static void overlap_add(const Operation &op, int64_t batch) {
    const Lapped of = lapped_of(op);
    for (Place at = {0, 0}; at.stream < batch; at = after(at, op.rows)) {
        const float *cosines = op.segments[0].first + at.stream * op.segments[0].stream + at.row * op.segments[0].row;
        for (int older = 1; older >= 0; --older) {
            const float *spectrum = cosines + (1 - older) * of.hop;
            for (int64_t m = 0; m < of.hop; ++m) {
                const float value = spectrum[bin_of(m, of.hop)];
                of.given.real[m] = value * of.turn.real[m];
                of.given.imaginary[m] = value * of.turn.imaginary[m];
            }
            transform(of);
            const Complex wave = older ? of.far : of.near;
            for (int64_t t = 0; t < of.hop; t += LANES) {
                const V part = load(of.made.imaginary + t) * load(wave.imaginary + t);
                const V sum = fused(load(of.made.real + t), load(wave.real + t), -part);
                store(of.row + t, older ? sum : load(of.row + t) + sum);
            }
        }
        finish_row(op, at, of.row);
    }
}
