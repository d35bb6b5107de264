// One LSTM layer over the rows of a step (Hochreiter & Schmidhuber 1997): torch's gates, in torch's order.
#pragma once

#include "int8_tiles.h"

// Move the state of one stream on by its gates [4 H], and write the row of output.
static void cells(const Operation &op, Place at, bool hold) {
    const int64_t width = op.columns;
    const float *gates = op.gates + (at.stream * op.rows + at.row) * 4 * width;
    float *hidden = op.hidden + at.stream * width, *cell = op.cell + at.stream * width;
    for (int64_t unit = 0; unit < width; unit += LANES) {
        const int64_t left = width - unit < LANES ? width - unit : LANES;
        if (!hold) {
            const V input = sigmoid(load(gates + unit)), forget = sigmoid(load(gates + width + unit));
            const V candidate = tanh(load(gates + 2 * width + unit)), output = sigmoid(load(gates + 3 * width + unit));
            const V c = fused(input, candidate, forget * load(cell + unit));
            store_some(cell + unit, c, left);
            store_some(hidden + unit, output * tanh(c), left);
        }
        finish(op, at, unit, load(hidden + unit));
    }
}

// The product of all rows first, then row by row that of the state, which goes on in the same chains of sums: so the
// bits are those of steps of single rows. position: as of a call; rows before the signal must not move the state.
static void lstm(const Operation &op, int64_t batch, const int64_t *position, Room &room) {
    const auto multiply = [&](const Operation &of, int64_t again) {
        if (!of.int8_tiles) return product(of, batch, again);
        room.rows = 0;  // the windows are others
        int8_product(of, 0, batch * of.rows, 0, int8_panel_count(of), again, room);
    };
    const int64_t width = op.columns, stream = op.rows * 4 * width;
    Target gates = {op.gates, 4 * width, stream, 0, NONE, false, nullptr, nullptr};
    Operation inputs = op;
    inputs.columns = 4 * width;
    inputs.targets = &gates;
    inputs.target_count = 1;
    inputs.add = nullptr;
    multiply(inputs, 0);
    const Segment hidden = {op.hidden, 0, width, width, false};
    Operation recurrent = inputs;
    recurrent.rows = 1;
    recurrent.segments = &hidden;
    recurrent.segment_count = 1;
    recurrent.weights = op.recurrent;
    recurrent.int8_weights = op.int8_recurrent;
    recurrent.int8_tiles = op.recurrent_tiles;
    recurrent.start_stream = stream;
    for (int64_t row = 0; row < op.rows; ++row) {
        gates.first = op.gates + row * 4 * width;
        recurrent.start = gates.first;
        multiply(recurrent, row);
        for (int64_t b = 0; b < batch; ++b)
            cells(op, {b, row}, position && position[b] * op.rate - op.lag + row < 0);
    }
}
