// What each row takes of itself and of the rows before it, by attention (`Attention` in streamcodec/program.py).
//
// Keys and values lie in rings in the state, and are read there. A row goes through the places that it sees from the
// oldest to itself, wherever each lies: in the ring or among the step's own rows. So its bits do not depend on how many
// rows a step has.
#pragma once

#include <math.h>

#include "rows.h"

// Cosines and sines for the rows' places, and how many rows came before the next step.
static void look(const Operation &op, int64_t batch) {
    const int64_t half = op.columns / op.heads / 2;
    float *to = op.angles;
    for (int64_t b = 0; b < batch; ++b) {
        for (int64_t row = 0; row < op.rows; ++row, to += 2 * half)
            for (int64_t i = 0; i < half; ++i) {
                const double angle = (double)(op.heard[2 * b] + row) * op.frequencies[i];
                to[i] = (float)cos(angle);
                to[half + i] = (float)sin(angle);
            }
        op.heard[2 * b + 1] = op.heard[2 * b] + op.rows;
    }
}

// Turn a head's values by the angles of a row, and scale them.
static void turn(const float *from, const float *angles, int64_t half, float scale, float *to) {
    for (int64_t i = 0; i < half; i += LANES) {
        const int64_t left = half - i;
        const V a = up_to(from + i, left), b = up_to(from + half + i, left);
        const V cosine = up_to(angles + i, left), sine = up_to(angles + half + i, left);
        put_up_to(to + i, (a * cosine - b * sine) * all(scale), left);
        put_up_to(to + half + i, (b * cosine + a * sine) * all(scale), left);
    }
}

namespace {
// The places that a row sees, of one head: those from `first` up to `heard` in the ring of `size` rows, the others
// among the step's rows, which are `row` apart.
struct Seen {
    const float *ring, *own;
    int64_t size, width, row, heard;

    const float *at(int64_t place) const {
        return place < heard ? ring + place % size * width : own + (place - heard) * row;
    }
};
}

// The products of a query with the keys of the places from `first` to `last`, as many as a vector has lanes at a time.
static void score(const float *query, const Seen &keys, int64_t first, int64_t last, float *scores) {
    for (int64_t place = first; place <= last; place += LANES) {
        const int64_t count = last + 1 - place < LANES ? last + 1 - place : LANES;
        float products[LANES][LANES];
        for (int64_t i = 0; i < count; ++i) {
            const float *key = keys.at(place + i);
            V total = zero();
            for (int64_t k = 0; k < keys.width; k += LANES) {
                const int64_t left = keys.width - k;
                total = fused(up_to(query + k, left), up_to(key + k, left), total);
            }
            store(products[i], total);
        }
        for (int64_t i = 0; i < count; ++i) {
            float total = products[i][0];
            for (int lane = 1; lane < LANES; ++lane) total += products[i][lane];
            scores[i] = total;
        }
        scores += count;
    }
}

// Scores to exp(score - highest) in place; returns their sum. `scores` belong to the last `count` of `reach` places, and
// each is added in the lane of its place among those, however many there are.
static float weigh(float *scores, int64_t reach, int64_t count) {
    float highest = scores[reach - count];
    for (int64_t i = reach - count; i < reach; ++i) highest = scores[i] > highest ? scores[i] : highest;
    V total = zero();
    for (int64_t i = (reach - count) / LANES * LANES; i < reach; i += LANES) {
        const int64_t absent = reach - count - i, left = reach - i;
        float weights[LANES];
        store(weights, exponential(up_to(scores + i, left) - all(highest)));
        for (int64_t lane = 0; lane < absent; ++lane) weights[lane] = 0.0f;
        for (int64_t lane = left; lane < LANES; ++lane) weights[lane] = 0.0f;
        total += load(weights);
        put_up_to(scores + i, load(weights), left);
    }
    return sum(total);
}

// The sum of the values of the places from `first` to `last`, each times its weight: `VECTORS` vectors of it.
template <int VECTORS>
static void take(
    const Operation &op, Place at, int64_t column, const float *weights, const Seen &values, int64_t from, int64_t first,
    int64_t last, float sum
) {
    V taken[VECTORS] = {};
    for (int64_t place = first; place <= last; ++place) {
        const float *value = values.at(place) + from;
        const V weight = all(*weights++);
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) taken[j] = fused(weight, up_to(value + j * LANES, values.width - from - j * LANES), taken[j]);
    }
    for (int j = 0; j < VECTORS; ++j) finish(op, at, column + j * LANES, taken[j] / all(sum));
}

// The whole of it, to `column` and those after it. The lanes beyond a head's last value are written too, and then by the
// next head.
static void take_all(
    const Operation &op, Place at, int64_t column, const float *weights, const Seen &values, int64_t first, int64_t last,
    float sum
) {
    int64_t from = 0;
    for (; from + 4 * LANES <= values.width; from += 4 * LANES)
        take<4>(op, at, column + from, weights, values, from, first, last, sum);
    for (; from < values.width; from += LANES)
        take<1>(op, at, column + from, weights, values, from, first, last, sum);
}

static void attend(const Operation &op, Place at, int64_t head, const Seen &keys, const Seen &values) {
    const int64_t width = keys.width, place = keys.heard + at.row, begin = place - keys.size;
    int64_t first = begin > op.lag ? begin : op.lag;
    if (first > place) first = place;  // before the signal: itself alone
    float *const seen = op.scores + (first - begin);
    turn(
        window_at(op, at) + head * width, op.angles + (at.stream * op.rows + at.row) * width, width / 2,
        1.0f / sqrtf((float)width), op.turned
    );
    score(op.turned, keys, first, place, seen);
    const float sum = weigh(op.scores, op.reach, place + 1 - first);
    take_all(op, at, head * width, seen, values, first, place, sum);
}

static void attention(const Operation &op, const Call &call, int64_t batch) {
    if (op.looks) look(op, batch);
    const int64_t width = op.columns / op.heads, size = op.reach - 1, row = op.segments[0].row;
    for (int64_t b = 0; b < batch; ++b) {
        uint8_t *state = state_of(call, b);
        const float *first = window_at(op, {b, 0}), *own_values = first + 2 * op.columns;
        float *own_keys = op.turned + width + b * op.rows * op.columns;
        for (int64_t i = 0; i < op.rows; ++i)
            for (int64_t head = 0; head < op.heads; ++head) {
                const int64_t at = head * width;
                turn(
                    first + i * row + op.columns + at, op.angles + (b * op.rows + i) * width, width / 2, 1.0f,
                    own_keys + i * op.columns + at
                );
            }
        const Seen keys = {(float *)(state + op.keys), own_keys, size, width, op.columns, op.heard[2 * b]};
        const Seen values = {(float *)(state + op.values), own_values, size, width, row, op.heard[2 * b]};
        for (int64_t i = 0; i < op.rows; ++i)
            for (int64_t head = 0; head < op.heads; ++head) {
                Seen k = keys, v = values;
                k.ring += head * size * width, v.ring += head * size * width;
                k.own += head * width, v.own += head * width;
                attend(op, {b, i}, head, k, v);
            }
    }
}

// Write rows of a stream over the oldest ones of a ring of `size`.
static void put(const Operation &op, const float *from, int64_t row, int64_t heard, float *ring) {
    const int64_t width = op.columns / op.heads, size = op.reach - 1;
    for (int64_t i = op.rows > size ? op.rows - size : 0; i < op.rows; ++i)
        for (int64_t head = 0; head < op.heads; ++head)
            memcpy(
                ring + (head * size + (heard + i) % size) * width, from + i * row + head * width, width * sizeof(float)
            );
}

// Write the keys and values of a stream's rows to its rings.
static void keep_rings(const Operation &op, int64_t b, uint8_t *state) {
    const float *keys = op.turned + op.columns / op.heads + b * op.rows * op.columns;
    put(op, keys, op.columns, op.heard[2 * b], (float *)(state + op.keys));
    put(op, window_at(op, {b, 0}) + 2 * op.columns, op.segments[0].row, op.heard[2 * b], (float *)(state + op.values));
}

// Attention within windows that lie side by side: each row takes of all rows of its own. columns: of a whole window.
static void local_attention(const Operation &op, int64_t batch) {
    const int64_t size = op.reach, channels = op.columns / size, width = channels / op.heads, row = 3 * channels;
    const float scale = 1.0f / sqrtf((float)width);
    float *turned = op.turned + width;
    for (Place at = {0, 0}; at.stream < batch; at = after(at, op.rows)) {
        const float *window = window_at(op, at);
        for (int64_t i = 0; i < size; ++i)
            for (int64_t head = 0; head < channels; head += width)
                turn(
                    window + i * row + channels + head, op.angles + i * width, width / 2, 1.0f,
                    turned + i * channels + head
                );
        for (int64_t i = 0; i < size; ++i)
            for (int64_t head = 0; head < channels; head += width) {
                const Seen keys = {nullptr, turned + head, 0, width, channels, 0};
                const Seen values = {nullptr, window + 2 * channels + head, 0, width, row, 0};
                turn(window + i * row + head, op.angles + i * width, width / 2, scale, op.turned);
                score(op.turned, keys, 0, size - 1, op.scores);
                const float sum = weigh(op.scores, size, size);
                take_all(op, at, i * channels + head, op.scores, values, 0, size - 1, sum);
            }
    }
}
