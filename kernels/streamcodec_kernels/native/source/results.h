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

// Rows of the result, from `first` up to `end`.
struct Range {
    Place first, end;
};

static inline bool before(Place place, Place other) {
    return place.stream < other.stream || (place.stream == other.stream && place.row < other.row);
}

static inline Place place_of(int64_t index, int64_t rows) { return {index / rows, index % rows}; }

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

// Write a block of the result, [rows][vectors], from `column` on: for each target a loop of its own activation's.
template <typename Function>
static inline void write_block(
    const Target &target, const Place *places, int64_t column, int64_t columns, const V *block, int rows, int vectors,
    Function function
) {
    const int64_t left = columns - column;
    const int whole = left >= vectors * LANES ? vectors : vectors - 1;  // the last vector may have fewer columns
    for (int i = 0; i < rows; ++i, block += vectors) {
        float *to = target.first + places[i].stream * target.stream + places[i].row * target.row + column;
        for (int j = 0; j < whole; ++j) store(to + j * LANES, function(block[j], column + j * LANES));
        if (whole < vectors) {
            const int64_t done = whole * LANES;
            store_some(to + done, function(block[whole], column + done), left - done);
        }
    }
}

__attribute__((noinline)) static void finish_block(
    const Operation &op, const Place *places, int64_t column, V *block, int rows, int vectors
) {
    if (op.add)
        for (int i = 0; i < rows; ++i) {
            const float *add = op.add + places[i].stream * op.add_stream + places[i].row * op.add_row + column;
            for (int j = 0; j < vectors; ++j) block[i * vectors + j] += load(add + j * LANES);
        }
    for (int64_t i = 0; i < op.target_count; ++i) {
        const Target &to = op.targets[i];
        const auto write = [&](auto function) {
            write_block(to, places, column, op.columns, block, rows, vectors, function);
        };
        if (to.activation == NONE) write([](V x, int64_t) { return x; });
        else if (to.activation == ELU) write([](V x, int64_t) { return elu(x); });
        else if (to.activation == SNAKE) write([&](V x, int64_t at) { return snake(x, to.alpha + at, to.inverse + at); });
        else write([&](V x, int64_t at) { return activated(x, to, at); });
    }
}
