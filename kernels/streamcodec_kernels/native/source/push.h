// A push of a live stream: what it is given is looked at, and goes through look-up, step and search.
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

// Codes [stages, frames] as [frames, stages]; returns whether each has an entry.
static bool take_codes(const Push &push) {
    const int64_t stages = push.lookup->stages;
    const int64_t *given = (const int64_t *)push.given;
    bool known = true;
    for (int64_t stage = 0; stage < stages; ++stage)
        for (int64_t frame = 0; frame < push.frames; ++frame) {
            const int64_t code = given[stage * push.stage_apart + frame * push.frame_apart];
            known &= code >= 0 && code < push.lookup->size;
            push.codes[frame * stages + stage] = code;
        }
    return known;
}

static void give_codes(const Push &push) {
    const int64_t stages = push.search->stages;
    int64_t *made = (int64_t *)push.made;
    for (int64_t stage = 0; stage < stages; ++stage)
        for (int64_t frame = 0; frame < push.frames; ++frame) *made++ = push.codes[frame * stages + stage];
}

static bool may_push(const Push &push) {
    return push.lookup ? take_codes(push) : all_finite((const float *)push.given, push.samples);
}

// The call of the step of a push: of one stream, whose state follows at once.
static void prepare(const Push &push, Call &call) {
    static const int64_t own = 0;
    call.batch = 1;
    call.x = push.lookup ? push.latents : (const float *)push.given;
    call.x_row = push.lookup ? push.lookup->dimension : 1;
    call.x_stream = 0;
    call.out = push.lookup ? (float *)push.made : push.latents;
    call.state = push.state;
    call.state_stream = 0;
    call.places = &own;
    call.keeps = 1;
    call.position = call.length = nullptr;
}
