// Rows outside a signal, made as soon as they are written: zeros, or copies of rows of the signal. The rules are those
// of `Length`, `Padding.source` and `torch_executor.fill` in streamcodec.
#pragma once

#include <string.h>

#include "plan.h"

static int64_t length_of(const Length &how, int64_t length) {
    if (length == 0) return 0;
    if (how.extend) length += (how.down - length % how.down) % how.down;
    const int64_t whole = how.up * length + how.add;
    return whole > 0 ? whole / how.down : 0;
}

// The lengths of all signals of the streams.
static void measure(const Plan &plan, const Call &call) {
    for (int64_t b = 0; b < call.batch; ++b) {
        int64_t *signal = plan.signal + b * plan.length_count;
        signal[0] = call.length[b];
        for (int64_t i = 1; i < plan.length_count; ++i)
            signal[i] = length_of(plan.lengths[i], signal[plan.lengths[i].source]);
    }
}

// Of which row of a signal the row `index` of a mirrored padding is a copy; -1: it is zero.
static int64_t source_of(const Buffer &buffer, int64_t index, int64_t length) {
    if (buffer.padding == REPLICATE) return length < 1 ? -1 : index < 0 ? 0 : length - 1;
    const int64_t beyond = buffer.extend ? (buffer.stride - length % buffer.stride) % buffer.stride : 0;
    const int64_t right = buffer.right + beyond > buffer.left ? buffer.right + beyond : buffer.left;
    const int64_t end = right >= length ? right + 1 : length;
    const int64_t source = index < 0 ? -index : index >= end ? 2 * (end - 1) - index : index;
    return source >= length ? -1 : source;
}

static int64_t value_bytes(const Buffer &buffer) { return buffer.halved ? sizeof(uint16_t) : sizeof(float); }

static void fill_stream(const Buffer &buffer, uint8_t *memory, int64_t start, int64_t length) {
    const bool mirrors = buffer.padding != CONSTANT;
    const int64_t first = start - buffer.history, bytes = buffer.channels * value_bytes(buffer);
    // Rows before a mirrored signal can be made only when the signal is there: some are history by then.
    for (int64_t row = mirrors ? 0 : buffer.history; row < buffer.rows; ++row) {
        const int64_t index = first + row;
        if (index >= 0 && (index < length || row < buffer.history)) continue;
        const int64_t source = mirrors ? source_of(buffer, index, length) : -1;
        uint8_t *to = memory + row * bytes;
        if (source < 0) {
            memset(to, 0, bytes);
            continue;
        }
        int64_t from = source - first;
        from = from < 0 ? 0 : from >= buffer.rows ? buffer.rows - 1 : from;
        if (from != row) memcpy(to, memory + from * bytes, bytes);
    }
}

static void fill(const Plan &plan, const Call &call, int64_t which) {
    const Buffer &buffer = plan.buffers[which];
    for (int64_t b = 0; b < call.batch; ++b) {
        const int64_t start = call.position[b] * buffer.rate - buffer.lag;
        uint8_t *memory = (uint8_t *)buffer.memory + b * buffer.stream * value_bytes(buffer);
        fill_stream(buffer, memory, start, plan.signal[b * plan.length_count + buffer.length]);
    }
}
