// A push of live streams: what they are given is looked at, and goes through look-up, step and search.
#pragma once

#include "quantize.h"

// No sum of finite numbers alone, which may be infinite: the exponent of each.
static bool all_finite(const float *values, int64_t count) {
    I special = {};
    for (int64_t i = 0; i < count; i += LANES) {
        const I exponent = bits(up_to(values + i, count - i)) & 0x7f800000;
        special |= exponent == 0x7f800000;
    }
    for (int j = 0; j < LANES; ++j)
        if (special[j]) return false;
    return true;
}

// Samples to their place in `rows`; returns whether all are finite.
static bool take_samples(const Given &from, float *rows) {
    const float *given = (const float *)from.first;
    if (from.row == 1) memcpy(rows, given, from.rows * sizeof(float));
    else
        for (int64_t i = 0; i < from.rows; ++i) rows[i] = given[i * from.row];
    return all_finite(rows, from.rows);
}

// Whether each code has an entry.
static bool have_entries(const Given &from, const Lookup &lookup) {
    const int64_t *given = (const int64_t *)from.first;
    bool known = from.width <= lookup.stages;
    for (int64_t i = 0; known && i < from.rows; ++i)
        for (int64_t stage = 0; stage < from.width; ++stage) {
            const int64_t code = given[i * from.row + stage * from.column];
            known &= code >= 0 && code < lookup.size;
        }
    return known;
}

// Codes to their place in `codes`, with none where a frame has fewer stages.
static void take_codes(const Given &from, const Lookup &lookup, int64_t *codes) {
    const int64_t *given = (const int64_t *)from.first;
    for (int64_t i = 0; i < from.rows; ++i, codes += lookup.stages)
        for (int64_t stage = 0; stage < lookup.stages; ++stage)
            codes[stage] = stage < from.width ? given[i * from.row + stage * from.column] : -1;
}

// No sample or code anywhere: a code of none adds nothing to a frame.
static void take_nothing(const Push &push) {
    if (push.lookup) memset(push.codes, 0xff, push.batch * push.frames * push.lookup->stages * sizeof(int64_t));
    else memset(push.rows, 0, push.batch * push.samples * sizeof(float));
}

// Calls `function` with all that is given, and with the row of all streams where it begins, as long as that returns true.
// Returns whether it always did, and each stream is given as many rows as it is to be, or fewer at an end.
template <typename Function>
static bool all_given(const Push &push, Function function) {
    const int64_t each = push.lookup ? push.frames : push.samples;
    int64_t stream = 0, row = 0, all = 0;
    for (int64_t i = 0; i < push.given_count; ++i) {
        const Given &from = push.given[i];
        if (from.stream < stream || from.stream >= push.batch) return false;
        row = from.stream == stream ? row : 0;
        stream = from.stream;
        if (row + from.rows > each || !function(from, stream * each + row)) return false;
        row += from.rows;
        all += from.rows;
    }
    return push.position || all == push.batch * each;
}

// Returns whether it may be: each stream has a state and is given what it is to be; all of that are samples or codes.
// Else the codes of the push before are still there.
static bool take(const Push &push) {
    for (int64_t b = 0; b < push.batch; ++b)
        if (push.places[b] < 0 || push.places[b] >= push.state_count) return false;
    const auto known = [&](const Given &from, int64_t) { return !push.lookup || have_entries(from, *push.lookup); };
    if (!all_given(push, known)) return false;
    if (push.position) take_nothing(push);
    return all_given(push, [&](const Given &from, int64_t row) {
        if (!push.lookup) return take_samples(from, push.rows + row);
        take_codes(from, *push.lookup, push.codes + row * push.lookup->stages);
        return true;
    });
}

static void give_codes(const Push &push) {
    const int64_t stages = push.search->stages, *codes = push.codes;
    for (int64_t b = 0; b < push.batch; ++b, codes += push.frames * stages) {
        int64_t *made = (int64_t *)push.made[b].first;
        for (int64_t stage = 0; stage < stages; ++stage)
            for (int64_t frame = 0; frame < push.frames; ++frame) *made++ = codes[frame * stages + stage];
    }
}

// To the nearest, ties to even, and clipped.
static void give_int16(const float *samples, int64_t count, int16_t *made) {
    for (int64_t i = 0; i < count; i += LANES) {
        const V value = nearest(clamp(up_to(samples + i, count - i) * all(32768.0f), -32768.0f, 32767.0f));
        for (int64_t j = 0; j < LANES && i + j < count; ++j) made[i + j] = (int16_t)value[j];
    }
}

static void give_samples(const Push &push) {
    for (int64_t b = 0; b < push.batch; ++b) {
        const float *samples = push.rows + b * push.samples;
        if (push.made[b].int16) give_int16(samples, push.samples, (int16_t *)push.made[b].first);
        else memcpy(push.made[b].first, samples, push.samples * sizeof(float));
    }
}

// The call of the step of a push.
static void prepare(const Push &push, Call &call) {
    const bool decodes = push.lookup;
    const int64_t dimension = decodes ? push.lookup->dimension : 1;
    call.x = decodes ? push.latents : push.rows;
    call.x_row = dimension;
    call.x_stream = (decodes ? push.frames : push.samples) * dimension;
    call.out = decodes ? push.rows : push.latents;
    call.state = push.state;
    call.state_stream = push.state_stream;
    call.places = push.places;
    call.keeps = 1;
    call.position = push.position;
    call.length = push.length;
}

// What the search or the look-up does, for so many rows.
template <typename Of>
static Of of_rows(Of of, int64_t rows) {
    of.rows = rows;
    return of;
}
