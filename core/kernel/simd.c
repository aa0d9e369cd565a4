/* simd: which instruction sets this CPU has. */
#include "core/kernel/simd.h"

#include <stdatomic.h>

static atomic_int limit = SIMD_AVX512;

static enum simd_level detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return SIMD_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return SIMD_AVX2;
#endif
    return SIMD_C;
}

enum simd_level simd_level(void)
{
    static atomic_int known = -1;
    int best = atomic_load_explicit(&known, memory_order_relaxed);
    if (best < 0) {
        best = (int)detect();
        atomic_store_explicit(&known, best, memory_order_relaxed);
    }
    int max = atomic_load_explicit(&limit, memory_order_relaxed);
    return (enum simd_level)(best < max ? best : max);
}

void simd_limit(enum simd_level max)
{
    atomic_store(&limit, (int)max);
}
