/*
 * numpy's pairwise summation (add.reduce of float64): blocks of at most 128 values in eight interleaved sums, halves
 * added recursively. Two comparisons of the reference tools hang on its last bit: `p >= 2 mean(p)` when a level lies on
 * the threshold, and whether a constant region's deviation from its own mean is exactly zero.
 */
#include "core/metric/internal.h"

double metric_numpy_sum(const uint8_t *data, int64_t n, int64_t step, const double *value)
{
    if (n < 8) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += value[data[i * step]];
        return sum;
    }
    if (n > 128) {
        int64_t half = n / 2;
        half -= half % 8;
        return metric_numpy_sum(data, half, step, value) + metric_numpy_sum(data + half * step, n - half, step, value);
    }
    double r[8];
    for (int j = 0; j < 8; j++)
        r[j] = value[data[j * step]];
    int64_t i = 8;
    for (; i < n - n % 8; i += 8)
        for (int j = 0; j < 8; j++)
            r[j] += value[data[(i + j) * step]];
    double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; i++)
        sum += value[data[i * step]];
    return sum;
}
