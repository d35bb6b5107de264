// Numbers in bfloat16, the first half of a float's bits. A buffer that products of one term alone read has them already:
// they are rounded where they are written, and not again where they are read.
#pragma once

#include "results.h"

#if defined(STREAMCODEC_amx) && COMPILES_TILES
#define HAS_TILES 1
#define TILED __attribute__((target("amx-tile,amx-bf16,amx-int8,avx512bf16,avx512vbmi,avx512vnni")))
#else
#define HAS_TILES 0
#endif

#if HAS_TILES
// The largest number in bfloat16. A larger float is this one and a rest, where the nearest one is infinite.
static constexpr float LARGEST = 0x1.fep127f;

// Rounded to the nearest, ties to even; NaN stays NaN.
TILED static inline __m256i half(V x) { return (__m256i)_mm512_cvtneps_pbh((__m512)x); }

TILED static inline V whole(__m256i x) {
    return (V)_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, x), 16);
}

// Values side by side, of which `to` has room to the end of the last vector: [count], each term `term` further.
template <int TERMS>
TILED static void halve(const float *from, uint16_t *to, int64_t term, int64_t count) {
    for (int64_t k = 0; k < count; k += LANES) {
        V left = up_to(from + k, count - k);
#pragma GCC unroll 3
        for (int t = 0; t < TERMS; ++t) {
            const __m256i value = half(TERMS == 3 && t == 0 ? clamp(left, -LARGEST, LARGEST) : left);
            memcpy(to + t * term + k, &value, sizeof value);
            left -= whole(value);
        }
    }
}

// Values side by side as floats again: [count].
TILED static void widen_halves(const uint16_t *from, float *to, int64_t count) {
    for (int64_t k = 0; k < count; k += LANES) {
        __m256i value = {};
        memcpy(&value, from + k, (count - k < LANES ? count - k : LANES) * sizeof(uint16_t));
        put_up_to(to + k, whole(value), count - k);
    }
}

TILED static inline void store_halves(uint16_t *to, V x, int64_t count) {
    const __m256i value = half(x);
    if (count >= LANES) memcpy(to, &value, sizeof value);
    else memcpy(to, &value, count * sizeof(uint16_t));
}

// A leaf of a stream: rounded in the step, floats in the state.
static void read_halved(const Leaf &leaf, int64_t stream, const float *state) {
    halve<1>(state, (uint16_t *)leaf.before + stream * leaf.stream, 0, leaf.count);
}

static void write_halved(const Leaf &leaf, int64_t stream, float *state) {
    widen_halves((const uint16_t *)leaf.after + stream * leaf.stream, state, leaf.count);
}
#else
static void read_halved(const Leaf &, int64_t, const float *) {}
static void write_halved(const Leaf &, int64_t, float *) {}
#endif
