/* map_out on a device: a thread a value of the mixed rows, then a thread an output pixel. */
#include "core/kernel/cuda/launch.cuh"
#include "core/kernel/gpu.h"

#define THREADS 256

__global__ void map_out_columns(struct map_out_columns k)
{
    int x = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (x >= k.width)
        return;
    for (int o = (int)blockIdx.y; o < k.y.out; o += (int)gridDim.y)
        map_out_columns_at(&k, x, o);
}

__global__ void map_out_pixels(struct resample_axis x, int height, const float *mixed, uint8_t *dst)
{
    int o = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (o >= x.out)
        return;
    for (int y = (int)blockIdx.y; y < height; y += (int)gridDim.y)
        dst[(size_t)y * (size_t)x.out + (size_t)o] = map_out_pixel(&x, o, mixed + (size_t)y * (size_t)x.in);
}

int gpu_map_out(const struct map_out *m, const float *logits, float *mixed, uint8_t *dst, void *stream, struct err *e)
{
    cudaStream_t on = (cudaStream_t)stream;
    struct map_out_columns k = {m->y, m->x.in, logits, mixed};
    map_out_columns<<<launch_grid(m->x.in, m->y.out, THREADS), THREADS, 0, on>>>(k);
    int rc = launch_status(cudaGetLastError(), "mixing the rows of a map", e);
    if (rc)
        return rc;
    map_out_pixels<<<launch_grid(m->x.out, m->y.out, THREADS), THREADS, 0, on>>>(m->x, m->y.out, mixed, dst);
    return launch_status(cudaGetLastError(), "resizing a map", e);
}
