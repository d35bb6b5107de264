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

// The first halves of two vectors' numbers, pair by pair.
TILED static inline V first_halves(V first, V second) {
    const __m512i pairs = (__m512i)first;
    return (V)_mm512_mask_alignr_epi8((__m512i)second, UINT64_C(0x3333333333333333), pairs, pairs, 2);
}

// Two vectors' numbers, pair by pair, as the sum of three in bfloat16: the nearest one, the nearest one to what is left, and
// that which is left then. A number that is infinite in bfloat16 is the largest one that is not, and what is left.
TILED static inline void in_three(V first, V second, V (&terms)[3]) {
    V near = clamp(first, -LARGEST, LARGEST), next = clamp(second, -LARGEST, LARGEST);
    for (int t = 0; t < 2; ++t, near = first, next = second) {
        const I upper = bits(near) + 0x8000, lower = bits(next) + 0x8000;
        first -= bits(upper & -0x10000);
        second -= bits(lower & -0x10000);
        terms[t] = first_halves(bits(upper), bits(lower));
    }
    terms[2] = first_halves(first, second);
}

// As `halve` does; pairs of two vectors are put in order.
TILED static void halve_in_three(const float *from, uint16_t *to, int64_t term, int64_t count) {
    alignas(64) static const uint16_t ORDER[] = {
        0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
    };
    const __m512i order = _mm512_load_si512(ORDER);
    for (int64_t k = 0; k < count; k += 2 * LANES) {
        V terms[3];
        in_three(up_to(from + k, count - k), up_to(from + k + LANES, count - k - LANES), terms);
        for (int t = 0; t < 3; ++t)
            _mm512_storeu_si512(to + t * term + k, _mm512_maskz_permutexvar_epi16(UINT32_MAX, order, (__m512i)terms[t]));
    }
}

// Values side by side, of which `to` has room to the end of the last two vectors: [count], each term `term` further.
template <int TERMS>
TILED static void halve(const float *from, uint16_t *to, int64_t term, int64_t count) {
    if constexpr (TERMS == 3) return halve_in_three(from, to, term, count);
    for (int64_t k = 0; k < count; k += LANES) {
        V left = up_to(from + k, count - k);
#pragma GCC unroll 3
        for (int t = 0; t < TERMS; ++t) {
            const __m256i value = half(left);
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
