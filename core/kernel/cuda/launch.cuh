/* Shared by the launchers: grids over planes of any size, and what a status means. */
#ifndef CORE_KERNEL_CUDA_LAUNCH_CUH
#define CORE_KERNEL_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#include "core/base/err.h"

#define LAUNCH_GRID_MAX 65535 /* of y and z */

/* Threads over columns, block rows over rows; kernels stride over what the grid cannot hold. */
static inline dim3 launch_grid(int columns, int rows, int threads)
{
    unsigned x = ((unsigned)columns + (unsigned)threads - 1) / (unsigned)threads;
    return dim3(x, (unsigned)(rows < LAUNCH_GRID_MAX ? rows : LAUNCH_GRID_MAX), 1);
}

static inline int launch_status(cudaError_t rc, const char *what, struct err *e)
{
    switch (rc) {
    case cudaSuccess:
        return 0;
    case cudaErrorMemoryAllocation:
        return err_set(e, ERR_NOMEM, "%s: %s", what, cudaGetErrorString(rc));
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorLaunchOutOfResources:
        return err_set(e, ERR_INTERNAL, "%s: %s", what, cudaGetErrorString(rc));
    default: /* faults of the context stay until the process ends */
        return err_set(e, ERR_DEVICE_LOST, "%s: %s", what, cudaGetErrorString(rc));
    }
}

#endif
