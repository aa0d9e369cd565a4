/* frame_in on a device: a thread a value of the mixed rows, then a thread an output pixel. */
#include "core/kernel/cuda/launch.cuh"
#include "core/kernel/gpu.h"

#define THREADS 256

__global__ void frame_in_columns(struct frame_in_columns k)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= k.width)
        return;
    for (int o = (int)blockIdx.y; o < k.y.out; o += (int)gridDim.y)
        frame_in_columns_at(&k, i, o);
}

__global__ void frame_in_pixels(struct frame_in f, const float *rows, float *dst)
{
    int o = (int)(blockIdx.x * blockDim.x + threadIdx.x), ch = frame_in_channels(f.format);
    size_t plane = (size_t)f.x.out * (size_t)f.y.out;
    if (o >= f.x.out)
        return;
    for (int y = (int)blockIdx.y; y < f.y.out; y += (int)gridDim.y) {
        const float *row = rows + (size_t)y * (size_t)f.x.in * (size_t)ch;
        frame_in_pixel(&f, ch, o, row, dst + (size_t)y * (size_t)f.x.out, plane);
    }
}

int gpu_frame_in(const struct frame_in *f, const uint8_t *src, ptrdiff_t stride, float *rows, float *dst, void *stream,
                 struct err *e)
{
    int width = f->x.in * frame_in_channels(f->format);
    cudaStream_t on = (cudaStream_t)stream;
    struct frame_in_columns k = {f->y, f->format, src, stride, width, rows};
    frame_in_columns<<<launch_grid(width, f->y.out, THREADS), THREADS, 0, on>>>(k);
    int rc = launch_status(cudaGetLastError(), "mixing the rows of a frame", e);
    if (rc)
        return rc;
    frame_in_pixels<<<launch_grid(f->x.out, f->y.out, THREADS), THREADS, 0, on>>>(*f, rows, dst);
    return launch_status(cudaGetLastError(), "resizing a frame", e);
}
