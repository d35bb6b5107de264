// Vectors of one instruction set: the compiler's own, so that only the fused product needs a name of the processor's.
//
// Each instruction set is compiled from the same source with its own flags, and everything is local to that object:
// a function that the linker merged with that of another set would crash where the set is missing.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(STREAMCODEC_avx512)
#include <immintrin.h>
#define LANES 16
#define PANEL 4  // vectors side by side in a panel of weights
#elif defined(STREAMCODEC_avx2)
#include <immintrin.h>
#define LANES 8
#define PANEL 2
#elif defined(STREAMCODEC_neon)
#include <arm_neon.h>
#define LANES 4
#define PANEL 4
#else
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#define LANES 4
#define PANEL 2
#endif

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

static inline V zero() { return V{}; }

static inline V all(float value) { return value - zero(); }

static inline V load(const float *from) {
    V value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void store(float *to, V value) { memcpy(to, &value, sizeof value); }

// Whole numbers of 8 bits.
static inline V load(const int8_t *from) {
#if defined(STREAMCODEC_avx512)
    const __m512i wide = _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128((const __m128i *)from));
    return (V)_mm512_maskz_cvtepi32_ps(0xffff, wide);
#elif defined(STREAMCODEC_avx2)
    return (V)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
#elif defined(STREAMCODEC_neon)
    uint32_t four;
    memcpy(&four, from, sizeof four);
    return (V)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
#elif defined(__SSE2__)
    int32_t four;
    memcpy(&four, from, sizeof four);
    const __m128i bytes = _mm_cvtsi32_si128(four), pairs = _mm_unpacklo_epi8(bytes, bytes);
    return (V)_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(pairs, pairs), 24));  // four times each, the sign last
#else
    V value;
    for (int lane = 0; lane < LANES; ++lane) value[lane] = from[lane];
    return value;
#endif
}

// Whether numbers of half precision are read as vectors.
#if defined(STREAMCODEC_avx512) || defined(STREAMCODEC_avx2) || defined(STREAMCODEC_neon)
#define HAS_HALVES 1
#else
#define HAS_HALVES 0
#endif

static inline V load(const Half *from) {
#if defined(STREAMCODEC_avx512)
    return (V)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i *)from));
#elif defined(STREAMCODEC_avx2)
    return (V)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
#elif defined(STREAMCODEC_neon)
    return (V)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&from->bits)));
#else
    (void)from;  // nothing is packed so here
    return V{};
#endif
}

// The first `count` values, zeros after them.
static inline V load_some(const float *from, int64_t count) {
    V value = zero();
    memcpy(&value, from, count * sizeof(float));
    return value;
}

static inline void store_some(float *to, V value, int64_t count) { memcpy(to, &value, count * sizeof(float)); }

// At most `left` values, of which there may be more or none.
static inline V up_to(const float *from, int64_t left) {
    return left >= LANES ? load(from) : left > 0 ? load_some(from, left) : zero();
}

static inline void put_up_to(float *to, V value, int64_t left) {
    if (left >= LANES) store(to, value);
    else if (left > 0) store_some(to, value, left);
}

// a * b + c, in one rounding where the processor has that. The compiler fuses nothing by itself (-ffp-contract=off):
// what it would fuse may differ from place to place, and with it the last bit.
static inline V fused(V a, V b, V c) {
#if defined(STREAMCODEC_avx512)
    return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(STREAMCODEC_avx2)
    return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(STREAMCODEC_neon)
    return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

static inline V bits(I value) { return (V)value; }

static inline I bits(V value) { return (I)value; }

// NaN passes through.
static inline V clamp(V x, float least, float most) {
#if defined(STREAMCODEC_avx512)
    return (V)_mm512_maskz_min_ps(0xffff, (__m512)all(most), _mm512_maskz_max_ps(0xffff, (__m512)all(least), (__m512)x));
#elif defined(STREAMCODEC_avx2)
    return (V)_mm256_min_ps((__m256)all(most), _mm256_max_ps((__m256)all(least), (__m256)x));
#else
    x = x < all(least) ? all(least) : x;
    return x > all(most) ? all(most) : x;
#endif
}

// To the nearest whole number, for less than 2^22.
static inline V nearest(V x) {
    const V big = all(12582912.0f);
    return (x + big) - big;
}

// The values of a vector added up, from the first to the last.
static inline float sum(V value) {
    float total = value[0];
    for (int lane = 1; lane < LANES; ++lane) total += value[lane];
    return total;
}
