/*
 * upconv on a device, after the products: per band of large rows, a thread a value of the vertical half, then a warp a pixel, its lanes
 * sharing the middle channels. A band's mixed rows stay in the second-level cache between the two.
 */
#include "core/kernel/cuda/launch.cuh"
#include "core/kernel/gpu.h"

#define THREADS 256
#define WARP 32

__global__ void upconv_vertical(struct upconv_band b)
{
    int n = 3 * b.small_w * b.mid; /* of a row */
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n)
        return;
    int m = i % b.mid, x = i / b.mid % b.small_w, kx = i / b.mid / b.small_w;
    for (int r = (int)blockIdx.y; r < b.rows; r += (int)gridDim.y)
        upconv_vertical_at(&b, r, kx, x, m);
}

__global__ void upconv_finish(struct upconv_band b)
{
    int x = (int)((blockIdx.x * blockDim.x + threadIdx.x) / WARP), lane = (int)threadIdx.x % WARP;
    if (x >= b.large_w)
        return;
    for (int r = (int)blockIdx.y; r < b.rows; r += (int)gridDim.y) {
        float sum = 0;
        for (int m = lane; m < b.mid; m += WARP)
            sum += upconv_share(&b, r, x, m);
        for (int half = WARP / 2; half > 0; half /= 2)
            sum += __shfl_down_sync(0xFFFFFFFFU, sum, (unsigned)half);
        if (lane == 0)
            b.y[(size_t)(b.first + r) * (size_t)b.large_w + (size_t)x] = sum + b.last_bias;
    }
}

int gpu_upconv(const struct upconv_band *b, int band, void *stream, struct err *e)
{
    cudaStream_t on = (cudaStream_t)stream;
    for (int y = 0; y < b->large_h; y += band) {
        struct upconv_band at = *b;
        at.first = y;
        at.rows = b->large_h - y < band ? b->large_h - y : band;
        upconv_vertical<<<launch_grid(3 * at.small_w * at.mid, at.rows, THREADS), THREADS, 0, on>>>(at);
        int rc = launch_status(cudaGetLastError(), "decoder, vertical half", e);
        if (rc)
            return rc;
        upconv_finish<<<launch_grid(at.large_w, at.rows, THREADS / WARP), THREADS, 0, on>>>(at);
        rc = launch_status(cudaGetLastError(), "decoder, horizontal half", e);
        if (rc)
            return rc;
    }
    return 0;
}
