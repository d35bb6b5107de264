// Where results go: what is added to them, the activations, and the targets.
#pragma once

#include "functions.h"

// A row of the result: of which stream, and which of its rows.
struct Place {
    int64_t stream, row;
};

static inline Place after(Place place, int64_t rows) {
    if (++place.row < rows) return place;
    return {place.stream + 1, 0};
}

// Write a vector of the result, from `column` on.
static inline void finish(const Operation &op, Place at, int64_t column, V value) {
    if (op.add) value += load(op.add + at.stream * op.add_stream + at.row * op.add_row + column);
    const int64_t left = op.columns - column;
    for (int64_t i = 0; i < op.target_count; ++i) {
        const Target &target = op.targets[i];
        const V y = activated(value, target, column);
        float *to = target.first + at.stream * target.stream + at.row * target.row + column;
        if (left >= LANES) store(to, y);
        else store_some(to, y, left);
    }
}

// Write a whole row of the result, of which `row` may be read to the end of its last vector.
static inline void finish_row(const Operation &op, Place at, const float *row) {
    for (int64_t column = 0; column < op.columns; column += LANES) finish(op, at, column, load(row + column));
}
