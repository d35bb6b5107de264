// What the library says of itself and of the processor.
#include <string.h>

#include "plan.h"

#if defined(__x86_64__)
#include <cpuid.h>

// Which registers the operating system keeps: without that, no wide vectors, whatever the processor has.
static bool keeps(uint32_t registers) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}

static bool has_avx2() {
    uint32_t a, b, c, d;
    if (!keeps(0x6) || !__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_FMA) || !(c & bit_F16C)) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

static bool has_avx512() {
    uint32_t a, b, c, d;
    const uint32_t needed = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    return has_avx2() && keeps(0xe6) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & needed) == needed;
}

// Whether it has tiles for bfloat16 and for whole numbers of 8 bits, and the system lends them to this process, which is
// asked for it here.
static bool has_amx() {
#if COMPILES_TILES
    uint32_t a, b, c, d;
    const uint32_t bytes = 1u << 1 | 1u << 11, tiles = 1u << 22 | 1u << 24 | 1u << 25;  // AVX512-VBMI and -VNNI; AMX's
    if (!has_avx512() || !keeps(0x60000) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if ((c & bytes) != bytes || (d & tiles) != tiles) return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & 1u << 5)) return false;  // AVX512-BF16
    int64_t result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(158), "D"(0x1023), "S"(18) : "rcx", "r11", "memory");
    return result == 0;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
#else
    return false;
#endif
}
#endif

// Whether this processor has an instruction set, 1 or 0.
EXPORTED int streamcodec_has(const char *set) {
#if defined(__x86_64__)
    if (!strcmp(set, "amx")) return has_amx();
    if (!strcmp(set, "avx512")) return has_avx512();
    if (!strcmp(set, "avx2")) return has_avx2();
#elif defined(__aarch64__)
    if (!strcmp(set, "neon")) return 1;
#endif
    return !strcmp(set, "baseline");
}

// The sizes of the structures, by which the caller knows that both mean the same.
EXPORTED void streamcodec_sizes(int64_t *sizes) {
    const int64_t own[] = {sizeof(Buffer), sizeof(Leaf), sizeof(Length), sizeof(Segment), sizeof(Target),
                           sizeof(Operation), sizeof(Plan), sizeof(Call), sizeof(Search), sizeof(Affine),
                           sizeof(Lookup), sizeof(Source), sizeof(Int8), sizeof(Tiles), sizeof(Push), sizeof(Given),
                           sizeof(Made)};
    memcpy(sizes, own, sizeof own);
}
