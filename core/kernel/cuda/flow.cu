/* What a flow field tells about its pixels, on a device: a thread a pixel. */
#include "core/kernel/cuda/launch.cuh"
#include "core/kernel/gpu.h"

#define THREADS 256

__global__ void warp_field(struct warp_field f)
{
    int x = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (x >= f.w)
        return;
    for (int y = (int)blockIdx.y; y < f.h; y += (int)gridDim.y)
        warp_field_at(&f, x, y);
}

int gpu_warp_field(const struct warp_field *f, void *stream, struct err *e)
{
    warp_field<<<launch_grid(f->w, f->h, THREADS), THREADS, 0, (cudaStream_t)stream>>>(*f);
    return launch_status(cudaGetLastError(), "warping by a flow field", e);
}
