// The rows of a result that tiles have made, written while tiles make the next ones.
#pragma once

#include "halves.h"

#if HAS_TILES
// Columns of a row, from `from`, to a target.
template <bool HALVED, typename Function>
TILED static void write_columns(
    const Target &target, Place at, int64_t column, int64_t end, const float *from, Function function
) {
    const int64_t first = at.stream * target.stream + at.row * target.row;
    for (; column < end; column += LANES, from += LANES) {
        const V y = function(load(from), column);
        if constexpr (HALVED) store_halves((uint16_t *)target.first + first + column, y, end - column);
        else put_up_to(target.first + first + column, y, end - column);
    }
}

// To all targets: for each a loop of its own activation's.
TILED static void finish_columns(const Operation &op, Place at, int64_t column, int64_t end, const float *from) {
    for (int64_t i = 0; i < op.target_count; ++i) {
        const Target &to = op.targets[i];
        const auto write = [&](auto function) {
            if (to.halved) write_columns<true>(to, at, column, end, from, function);
            else write_columns<false>(to, at, column, end, from, function);
        };
        if (to.activation == NONE) write([](V x, int64_t) { return x; });
        else if (to.activation == ELU) write([](V x, int64_t) { return elu(x); });
        else if (to.activation == SNAKE) write([&](V x, int64_t c) { return snake(x, to.alpha + c, to.inverse + c); });
        else write([&](V x, int64_t c) { return activated(x, to, c); });
    }
}

namespace {
// Sums [row, column], rows `line` apart, of which the next is that of `next`; its columns go from `column` to `end`.
struct Finishing {
    const Operation &op;
    float *sums;
    Place next = {0, 0};
    int64_t column = 0, end = 0, line = 0, row = 0, left = 0;
    int64_t steps = 1, each = 0, due = 0;  // in so many steps so many rows are written

    void begin(Place first, int64_t rows, int64_t from, int64_t to, int64_t apart) {
        next = first, column = from, end = to, line = apart, row = 0, left = rows;
    }

    // From now on `go_on` is called so often.
    void over(int64_t count) { steps = count, each = left, due = 0; }

    inline void go_on() {
        for (due += each; due >= steps && left > 0; due -= steps) write();
    }

    void finish() {
        while (left > 0) write();
    }

    __attribute__((noinline)) void write() {
        float *from = sums + row++ * line, *to = from;
        const float *add = op.add ? op.add + next.stream * op.add_stream + next.row * op.add_row : nullptr;
        for (int64_t c = column; c < end; c += LANES, to += LANES) {
            V sum = load(to);
            if (op.bias) sum += load(op.bias + c);
            if (add) sum += load(add + c);
            store(to, sum);
        }
        finish_columns(op, next, column, end, from);
        next = after(next, op.rows);
        --left;
    }
};
}
#endif
