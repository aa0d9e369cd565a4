/* e^x for x <= 0 to 1e-5 of its value, without a call, so loops with it vectorise. NaN gives 1, below -87 gives e^-87. */
#ifndef CORE_KERNEL_EXPNEG_H
#define CORE_KERNEL_EXPNEG_H

#include <stdint.h>
#include <string.h>

static inline float exp_neg(float x)
{
    x = x < 0.0f ? x : 0.0f;
    x = x > -87.0f ? x : -87.0f;
    float t = x * 1.44269504f; /* 2^t = 2^n 2^f with |f| <= 1/2; the cast rounds towards zero and t is not positive */
    int32_t n = (int32_t)(t - 0.5f);
    float f = (t - (float)n) * 0.693147181f;
    float p = 1.0f + f * (1.0f + f * (0.5f + f * (0.166666667f + f * (0.0416666667f + f * 0.00833333333f))));
    int32_t bits = (n + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof(scale));
    return p * scale;
}

#endif
