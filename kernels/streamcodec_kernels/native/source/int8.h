// Matrices that are whole numbers times a scale for each column, to the last bit: found once, when weights are packed.
#pragma once

#include "functions.h"

typedef int8_t Bytes __attribute__((vector_size(LANES)));

// Columns whose largest values are looked for together, row after row as they lie in memory; and rows after which it is
// known of most matrices that they are none.
static constexpr int64_t BESIDE = 512, LOOKED_AT = 16;
// How far a scale may be from a 127th of the largest value, in units in the last place; the first that fits is taken.
static constexpr int32_t NEARBY[] = {0, 1, -1, 2, -2};
static constexpr int TRIED = sizeof NEARBY / sizeof *NEARBY;

namespace {
// Columns that are tried as numbers times scales. Masks are 0 or -1.
struct Trial {
    V divisor, scales[TRIED];
    I fits[TRIED];

    Trial(V most, I below) {
        const V near = most == zero() ? all(1.0f) : most / all(127.0f);
        const I sign = below & INT32_MIN;
        divisor = bits(bits(near) | sign);
        for (int t = 0; t < TRIED; ++t) {
            const V scale = bits(bits(near) + NEARBY[t]);
            // The library takes scales below the least normal number for 0; the weights they make may be above it.
            fits[t] = (scale >= all(0x1p-126f)) & (scale <= all(0x1.fffffep127f));
            scales[t] = bits(bits(scale) | sign);
        }
    }

    // The numbers of a row.
    V take(V x) {
        const V number = nearest(x / divisor);
        const I inside = (number >= all(-127.0f)) & (number <= all(127.0f));
        for (int t = 0; t < TRIED; ++t) fits[t] &= inside & (bits(number * scales[t]) == bits(x));
        return inside ? number : zero();
    }

    // Whether a scale fits each of the first `left` columns.
    bool possible(int64_t left) const {
        I any = fits[0];
        for (int t = 1; t < TRIED; ++t) any |= fits[t];
        for (int lane = 0; lane < LANES && lane < left; ++lane)
            if (!any[lane]) return false;
        return true;
    }

    V found() const {
        V scale = zero();
        for (int t = TRIED - 1; t >= 0; --t) scale = fits[t] ? scales[t] : scale;
        return scale;
    }
};
}

// The largest size of each column from `first` up to `end`, in `scales`: negative where the column has such a zero, whose
// sign is that of the scale.
static void largest_of(const Int8 &of, int64_t first, int64_t end) {
    memset(of.scales + first, 0, (end - first) * sizeof(float));
    for (int64_t row = 0; row < of.rows; ++row)
        for (int64_t column = first; column < end; column += LANES) {
            const int64_t left = end - column;
            const V x = up_to(of.matrix + row * of.line + column, left), before = up_to(of.scales + column, left);
            const V size = bits(bits(x) & INT32_MAX), most = bits(bits(before) & INT32_MAX);
            const I below = bits(before) | (bits(x) == INT32_MIN);
            put_up_to(of.scales + column, bits(bits(size > most ? size : most) | (below & INT32_MIN)), left);
        }
}

// The columns from `first` up to `end`.
static bool columns_in_int8(const Int8 &of, int64_t first, int64_t end) {
    largest_of(of, first, end);
    for (int64_t column = first; column < end; column += LANES) {
        const int64_t left = end - column, count = left < LANES ? left : LANES;
        const V most = up_to(of.scales + column, left);
        Trial trial(bits(bits(most) & INT32_MAX), bits(most));
        for (int64_t row = 0; row < of.rows; ++row) {
            const V x = up_to(of.matrix + row * of.line + column, left);
            const Bytes numbers = __builtin_convertvector(__builtin_convertvector(trial.take(x), I), Bytes);
            if ((row == LOOKED_AT || row + 1 == of.rows) && !trial.possible(left)) return false;
            memcpy(of.numbers + row * of.columns + column, &numbers, count);
        }
        put_up_to(of.scales + column, trial.found(), left);
    }
    return true;
}

static bool in_int8(const Int8 &of) {
    for (int64_t first = 0; first < of.columns; first += BESIDE)
        if (!columns_in_int8(of, first, of.columns - first < BESIDE ? of.columns : first + BESIDE)) return false;
    return true;
}
