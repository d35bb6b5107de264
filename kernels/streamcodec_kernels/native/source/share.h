// A step on several threads: an operation's rows or panels in shares, which threads take as they come.
//
// The thread that was called goes from operation to operation. Others help with the shares of the one that runs; one that
// comes late, or never, is not waited for. Who makes a value does not change it, so the bits are those of one thread.
#pragma once

#include "attention.h"
#include "lapped.h"
#include "low_precision.h"
#include "lstm.h"
#include "quantize.h"

#if defined(_WIN32)
extern "C" __declspec(dllimport) int SwitchToThread(void);
static void give_way() { SwitchToThread(); }
#else
#include <sched.h>
static void give_way() { sched_yield(); }
#endif

// The most shares of an operation, so many that a slow thread is not waited for long; as many as there should be, where
// that needs panels to be divided by rows; and the fewest rows of one. They do not depend on the number of threads: who
// comes late from one step may help with the next.
static constexpr int64_t MOST_SHARES = 64, SHARES = 24, SHARED_ROWS = 32;
// The operation of a turn when a step is done, and when it has not come to a first one.
static constexpr uint64_t OVER = UINT64_C(0xffffffff), WAITING = OVER - 1;
// A turn: the operation, and above it how many of its shares were taken from the first on, and from the last.
static constexpr int FRONT = 32, BACK = 48;

namespace {
// Into how many parts the panels of an operation are divided, and each of them into how many of rows. They do not depend
// on how many streams a step has: a thread that comes late may count the shares of one step and take those of the next.
struct Shares {
    int64_t panels, rows;

    int64_t count() const { return panels * rows; }
};
}

static Shares shares_of(const Operation &op, const Plan &plan) {
    const auto from_1_to = [](int64_t count, int64_t most) { return count < 1 ? 1 : count < most ? count : most; };
    const int64_t parts = plan.batch * op.rows / SHARED_ROWS;
    switch (op.kind) {
        case PRODUCT: {
            if (held(op)) return {1, from_1_to(parts, MOST_SHARES)};
            const int64_t panels = from_1_to(panel_count(op), MOST_SHARES);
            return {panels, from_1_to(parts, (SHARES + panels - 1) / panels)};
        }
        case LOW_PRODUCT: {
            const int64_t blocks = (plan.batch * op.rows + LOW_ROWS - 1) / LOW_ROWS;
            if (side_by_side(op)) return {1, from_1_to(blocks, MOST_SHARES)};
            const int64_t panels = from_1_to(low_panel_count(op), MOST_SHARES), held = op.halves_rows / LOW_ROWS;
            const int64_t wanted = from_1_to(blocks, (SHARES + panels - 1) / panels), needed = (blocks + held - 1) / held;
            return {panels, wanted < needed ? needed : wanted};
        }
        case INT8_PRODUCT: {
            const int64_t panels = from_1_to(int8_panel_count(op), MOST_SHARES);
            const int64_t wanted = from_1_to(parts, (SHARES + panels - 1) / panels);
            const int64_t needed = (plan.batch * op.rows + op.halves_rows - 1) / op.halves_rows;
            return {panels, wanted < needed ? needed : wanted};
        }
        case COPY: return {1, op.segment_count ? from_1_to(parts, MOST_SHARES) : 1};
        case DOT:
        case DEPTHWISE:
        case NORMALISE:
        case GATED_SILU:
        case LAYER_NORM: return {1, from_1_to(parts, MOST_SHARES)};
        default: return {1, 1};  // it has a state, or room for one row
    }
}

// Of these shares those of the same rows follow each other, so that a thread rounds them once.
static void run_low(const Operation &op, const Call &call, Shares shares, int64_t share, Room &room) {
    const int64_t rows = call.batch * op.rows, blocks = (rows + LOW_ROWS - 1) / LOW_ROWS, all = low_panel_count(op);
    const int64_t panel = share % shares.panels, place = share / shares.panels;
    const int64_t first = blocks * place / shares.rows * LOW_ROWS, end = blocks * (place + 1) / shares.rows * LOW_ROWS;
    const int64_t from = all * panel / shares.panels, to = all * (panel + 1) / shares.panels;
    if (first == end) return;  // there are fewer streams than room
    const auto product = op.terms == 1 ? low_product<1> : op.terms == 2 ? low_product<2> : low_product<3>;
    product(op, first, end < rows ? end : rows, rows, from, to, room);
}

// Likewise.
static void run_int8(const Operation &op, const Call &call, Shares shares, int64_t share, Room &room) {
    const int64_t rows = call.batch * op.rows, all = int8_panel_count(op);
    const int64_t panel = share % shares.panels, place = share / shares.panels;
    const int64_t first = rows * place / shares.rows, end = rows * (place + 1) / shares.rows;
    int8_product(op, first, end, all * panel / shares.panels, all * (panel + 1) / shares.panels, 0, room);
}

static void run(const Operation &op, const Call &call, Shares shares, int64_t share, Room &room) {
    const int64_t rows = call.batch * op.rows, panel = share / shares.rows, place = share % shares.rows;
    const int64_t first = rows * place / shares.rows, end = rows * (place + 1) / shares.rows;
    const Range part = {place_of(first, op.rows), place_of(end, op.rows)};
    if (op.kind == LOW_PRODUCT) return run_low(op, call, shares, share, room);
    if (op.kind == INT8_PRODUCT) return run_int8(op, call, shares, share, room);
    if (first == end) return;  // there are fewer streams than room
    switch (op.kind) {
        case COPY: return op.segment_count ? copy(op, part) : copy_input(op, call, call.batch);
        case PRODUCT: {
            if (shares.count() == 1) return product(op, call.batch);
            const int64_t all = panel_count(op), from = all * panel / shares.panels, to = all * (panel + 1) / shares.panels;
            return panels(op, window_width(op), part.first, end - first, 0, from, to);
        }
        case DOT: return dot(op, part);
        case DEPTHWISE: return depthwise(op, part);
        case NORMALISE: return normalise(op, part);
        case GATED_SILU: return gated_silu(op, part);
        case LAYER_NORM: return layer_norm(op, part);
        case LSTM: return lstm(op, call.batch, call.position, room);
        case BAND_FEATURES: return band_features(op, call.batch);
        case BAND_GAINS: return band_gains(op, call.batch);
        case ATTENTION: return attention(op, call, call.batch);
        case NOISE: return noise(op, call.batch);
        case LOCAL_ATTENTION: return local_attention(op, call.batch);
        case LAPPED: return lapped(op, call.batch);
        case OVERLAP_ADD: return overlap_add(op, call.batch);
        default: return;
    }
}

// Wait a little: `waits` counts how often, and beyond some microseconds the processor is left to others.
static void wait(int64_t &waits) {
    if (++waits % 4096 == 0) give_way();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Take shares of the operation `which` until none is left; returns how many. The thread that was called takes the first
// ones, the others the last: so of what one operation writes and the next one reads most stays in the same caches.
static int64_t take_shares(
    const Operation &op, Call &call, uint64_t which, Shares shares, int side, Room &room
) {
    int64_t taken = 0;
    room.rows = 0, room.through = nullptr;
    uint64_t turn = __atomic_load_n(&call.turn, __ATOMIC_ACQUIRE);
    while ((turn & OVER) == which) {
        const int64_t front = turn >> FRONT & 0xffff, back = turn >> BACK;
        if (front + back >= shares.count()) break;
        const uint64_t next = turn + (UINT64_C(1) << side);
        if (!__atomic_compare_exchange_n(&call.turn, &turn, next, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) continue;
        run(op, call, shares, side == FRONT ? front : shares.count() - 1 - back, room);
        __atomic_fetch_add(&call.done, 1, __ATOMIC_RELEASE);
        ++taken;
        turn = __atomic_load_n(&call.turn, __ATOMIC_ACQUIRE);
    }
    return taken;
}

// An operation, with those who help.
static void run_shared(const Plan &plan, Call &call, int64_t which, Room &room) {
    const Operation &op = plan.operations[which];
    const Shares shares = call.shared ? shares_of(op, plan) : Shares{1, 1};
    if (shares.count() == 1) {
        room.rows = 0, room.through = nullptr;
        return run(op, call, shares, 0, room);
    }
    __atomic_store_n(&call.done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&call.turn, (uint64_t)which, __ATOMIC_RELEASE);
    take_shares(op, call, (uint64_t)which, shares, FRONT, room);
    for (int64_t waits = 0; __atomic_load_n(&call.done, __ATOMIC_ACQUIRE) < shares.count();) wait(waits);
}

// Help until the step is done; returns how many shares were taken.
static int64_t help(const Plan &plan, Call &call, Room &room) {
    int64_t taken = 0, waits = 0;
    for (;;) {
        const uint64_t which = __atomic_load_n(&call.turn, __ATOMIC_ACQUIRE) & OVER;
        if (which == OVER) return taken;
        int64_t more = 0;
        if (which != WAITING) {
            const Operation &op = plan.operations[which];
            more = take_shares(op, call, which, shares_of(op, plan), BACK, room);
        }
        if (more) taken += more, waits = 0;
        else wait(waits);
    }
}
