/*
 * One C body compiled for several instruction sets, the best one chosen at run time.
 *
 *     static SIMD_BODY void sum_body(const float *x, int n, float *y) { ... }
 *     SIMD_KERNEL(sum, (const float *x, int n, float *y), (x, n, y))     // defines static void sum(...)
 *
 * simd_limit() lowers the choice, so that tests can compare every variant on one machine.
 */
#ifndef CORE_KERNEL_SIMD_H
#define CORE_KERNEL_SIMD_H

enum simd_level { SIMD_C, SIMD_AVX2, SIMD_AVX512 };

/* The best level of this CPU, at most the limit. */
enum simd_level simd_level(void);
/* For tests: not for use while kernels run. */
void simd_limit(enum simd_level max);

#define SIMD_BODY inline __attribute__((always_inline))

#if defined(__x86_64__)
#define SIMD_TARGET_AVX2 __attribute__((target("avx2,fma")))
#define SIMD_TARGET_AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#define SIMD_KERNEL(name, params, args)                 \
    SIMD_TARGET_AVX2 static void name##_avx2 params     \
    {                                                   \
        name##_body args;                               \
    }                                                   \
    SIMD_TARGET_AVX512 static void name##_avx512 params \
    {                                                   \
        name##_body args;                               \
    }                                                   \
    static void name params                             \
    {                                                   \
        switch (simd_level()) {                         \
        case SIMD_AVX512:                               \
            name##_avx512 args;                         \
            return;                                     \
        case SIMD_AVX2:                                 \
            name##_avx2 args;                           \
            return;                                     \
        case SIMD_C:                                    \
            break;                                      \
        }                                               \
        name##_body args;                               \
    }
#else
#define SIMD_KERNEL(name, params, args) \
    static void name params             \
    {                                   \
        name##_body args;               \
    }
#endif

#endif
