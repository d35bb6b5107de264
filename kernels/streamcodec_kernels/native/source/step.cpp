// A step, for one instruction set: compiled once for each, with its flags and -DSTREAMCODEC_<name>. All but what it exports
// is static, and structures with functions are in unnamed namespaces: else the linker would take one set's for all.
#include "edges.h"
#include "int8.h"
#include "push.h"
#include "share.h"

#define JOINED(a, b) a##b
#define NAMED(a, b) JOINED(a, b)

#if defined(STREAMCODEC_amx)
#define SET amx
#elif defined(STREAMCODEC_avx512)
#define SET avx512
#elif defined(STREAMCODEC_avx2)
#define SET avx2
#elif defined(STREAMCODEC_neon)
#define SET neon
#else
#define SET baseline
#endif

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
// Values too small for a normal float are 0 during a step: with them processors take a hundred times as long.
static unsigned int flush_to_zero() {
    const unsigned int before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
}

static void restore(unsigned int before) { _mm_setcsr(before); }
#elif defined(__aarch64__)
static uint64_t flush_to_zero() {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (UINT64_C(1) << 24)));
    return before;
}

static void restore(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
static int flush_to_zero() { return 0; }

static void restore(int) {}
#endif

// Take what the operation `which` finds of the states: the leaves from `leaf` on; returns the first one of a later one.
static int64_t read_leaves(const Plan &plan, const Call &call, int64_t which, int64_t leaf) {
    for (; leaf < plan.leaf_count && plan.leaves[leaf].first == which; ++leaf) {
        const Leaf &of = plan.leaves[leaf];
        for (int64_t b = 0; b < call.batch; ++b) {
            const float *from = (const float *)(state_of(call, b) + of.offset);
            if (of.halved) read_halved(of, b, from);
            else memcpy(of.before + b * of.stream, from, of.count * sizeof(float));
        }
    }
    return leaf;
}

// Put what the operation `which` leaves of them where it belongs, likewise: nothing can go wrong any more, and a later
// operation reads its own leaves. What is lent is put by, until it is to be kept.
static int64_t put_leaves(const Plan &plan, const Call &call, int64_t which, int64_t leaf) {
    for (; leaf < plan.leaf_count && plan.leaves[leaf].last == which; ++leaf) {
        const Leaf &of = plan.leaves[leaf];
        for (int64_t b = 0; b < call.batch; ++b) {
            float *to = call.keeps ? (float *)(state_of(call, b) + of.offset) : of.room + b * of.count;
            if (of.halved) write_halved(of, b, to);
            else memcpy(to, of.after + b * of.stream, of.count * sizeof(float));
        }
    }
    return leaf;
}

static void keep_all_rings(const Plan &plan, const Call &call) {
    for (int64_t i = 0; i < plan.operation_count; ++i)
        for (int64_t b = 0; plan.operations[i].kind == ATTENTION && b < call.batch; ++b)
            if (call.places[b] >= 0) keep_rings(plan.operations[i], b, state_of(call, b));
}

// What was put by.
static void keep_states(const Plan &plan, const Call &call) {
    for (int64_t b = 0; b < call.batch; ++b)
        for (int64_t i = 0; call.places[b] >= 0 && i < plan.leaf_count; ++i) {
            const Leaf &leaf = plan.leaves[i];
            memcpy(state_of(call, b) + leaf.offset, leaf.room + b * leaf.count, leaf.count * sizeof(float));
        }
    keep_all_rings(plan, call);
}

// A clock of the processor's, in ticks that are all of one length.
static int64_t ticks() {
#if defined(__x86_64__) || defined(__i386__)
    return (int64_t)__builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    int64_t now;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(now));
    return now;
#else
    return 0;
#endif
}

// What passed since `since` was the operation's; `since` is now.
static void spend(const Call &call, int64_t operation, int64_t &since) {
    if (!call.spent) return;
    const int64_t now = ticks();
    call.spent[operation] += now - since;
    since = now;
}

static void step(const Plan *plan, Call *call) {
    int64_t since = call->spent ? ticks() : 0;
    Room room;
    room.halves = call->halves;
    if (call->position) measure(*plan, *call);
    spend(*call, plan->operation_count, since);
    for (int64_t i = 0, read = 0, left = 0; i < plan->operation_count; ++i) {
        const Operation &op = plan->operations[i];
        read = read_leaves(*plan, *call, i, read);
        spend(*call, plan->operation_count, since);
        run_shared(*plan, *call, i, room);
        if (call->position)
            for (int64_t t = 0; t < op.target_count; ++t) fill(*plan, *call, op.targets[t].buffer);
        spend(*call, i, since);
        left = put_leaves(*plan, *call, i, left);
        spend(*call, plan->operation_count, since);
    }
    __atomic_store_n(&call->turn, OVER, __ATOMIC_RELEASE);
    if (call->keeps) keep_all_rings(*plan, *call);
    const Buffer &out = plan->buffers[plan->out];
    const int64_t size = (out.rows - out.history) * out.channels;
    for (int64_t b = 0; b < call->batch; ++b)
        memcpy(call->out + b * size, out.memory + b * out.stream + out.history * out.channels, size * sizeof(float));
    spend(*call, plan->operation_count, since);
}

EXPORTED void NAMED(streamcodec_step_, SET)(const Plan *plan, Call *call) {
    const auto before = flush_to_zero();
    step(plan, call);
    restore(before);
}

// Returns 1; or 0 where a sample is not finite, a code has no entry, a stream has no state, or is given too few or too
// many: then nothing has changed.
EXPORTED int64_t NAMED(streamcodec_push_, SET)(const Plan *plan, Call *call, const Push *push) {
    if (!take(*push)) return 0;
    const int64_t rows = push->batch * push->frames;
    const auto before = flush_to_zero();
    if (push->lookup) lookup(of_rows(*push->lookup, rows));
    prepare(*push, *call);
    step(plan, call);
    if (push->search) search(of_rows(*push->search, rows));
    restore(before);
    if (push->search) give_codes(*push);
    else give_samples(*push);
    return 1;
}

// Write the states that the last step of this call has left, where it did not: its memory is as the step left it.
EXPORTED void NAMED(streamcodec_keep_, SET)(const Plan *plan, const Call *call) { keep_states(*plan, *call); }

// Help with a step that another thread was called with, if it still runs; returns how many shares were taken. halves: as
// the other thread has them.
EXPORTED int64_t NAMED(streamcodec_help_, SET)(const Plan *plan, Call *call, uint16_t *halves) {
    const auto before = flush_to_zero();
    Room room;
    room.halves = halves;
    const int64_t taken = help(*plan, *call, room);
    restore(before);
    return taken;
}

EXPORTED void NAMED(streamcodec_search_, SET)(const Search *of) {
    const auto before = flush_to_zero();
    search(*of);
    restore(before);
}

EXPORTED void NAMED(streamcodec_affine_, SET)(const Affine *of) {
    const auto before = flush_to_zero();
    affine(*of);
    restore(before);
}

EXPORTED void NAMED(streamcodec_lookup_, SET)(const Lookup *of) {
    const auto before = flush_to_zero();
    lookup(*of);
    restore(before);
}

// Whether there are such numbers and scales, 1 or 0; where not, what they are is left open.
EXPORTED int64_t NAMED(streamcodec_int8_, SET)(const Int8 *of) { return in_int8(*of); }

EXPORTED void NAMED(streamcodec_tiles_, SET)(const Tiles *of) { in_tiles(*of); }

// Columns of a vector, vectors of a panel, whether products in bfloat16 are compiled, the most rows with weights in int8,
// and whether searches read numbers of half precision.
EXPORTED void NAMED(streamcodec_panel_, SET)(int64_t *sizes) {
    sizes[0] = LANES;
    sizes[1] = PANEL;
    sizes[2] = HAS_TILES;
    sizes[3] = MODEST;
    sizes[4] = HAS_HALVES;
}
