/* Histograms of metrics on a device: a block counts its share of the pixels in shared memory, then adds it to the total. */
#include "core/kernel/cuda/launch.cuh"
#include "core/kernel/gpu.h"

#define THREADS 256
#define BLOCKS_MAX 1024

__global__ void hist_count(struct hist_frame f, uint32_t *counts)
{
    __shared__ uint32_t mine[HIST_BINS];
    for (int i = (int)threadIdx.x; i < HIST_BINS; i += THREADS)
        mine[i] = 0;
    __syncthreads();
    int64_t n = (int64_t)f.w * f.h, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += step)
        atomicAdd(&mine[hist_counter(&f, i)], 1U);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < HIST_BINS; i += THREADS)
        if (mine[i])
            atomicAdd(&counts[i], mine[i]);
}

int gpu_hist(const struct hist_frame *f, uint32_t *counts, void *stream, struct err *e)
{
    cudaStream_t on = (cudaStream_t)stream;
    int64_t blocks = ((int64_t)f->w * f->h + 8 * THREADS - 1) / (8 * THREADS);
    int rc = launch_status(cudaMemsetAsync(counts, 0, HIST_BINS * sizeof(*counts), on), "clearing histograms", e);
    if (rc)
        return rc;
    hist_count<<<(unsigned)(blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX), THREADS, 0, on>>>(*f, counts);
    return launch_status(cudaGetLastError(), "counting histograms", e);
}
