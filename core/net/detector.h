/*
 * The windowed streaming detector: frames in, one 8-bit saliency map per frame out, in order, memory bounded whatever
 * the length.
 *
 * The clip is cut into windows of the model's clip length T without overlap. The last window is re-aligned to end at
 * the last frame, and its maps replace the ones before; so maps come late, by a window for each thread and one more (at
 * most five). A clip shorter than T repeats its last frame. Models without a temporal module have T = 1 (batched).
 */
#ifndef CORE_NET_DETECTOR_H
#define CORE_NET_DETECTOR_H

#include <stdbool.h>

#include "core/media/frame.h"
#include "core/net/model.h"

struct detector;

struct detector_opts {
    int size_px; /* side of the square network input; 0: the model's own */
    /* Called in order from detector_push or detector_finish. map: height rows of width bytes, the frame's own size,
     * valid during the call. A negative return (with e set) ends the call with that error. */
    int (*emit)(void *arg, int64_t ordinal, const uint8_t *map, int width_px, int height_px, struct err *e);
    void *arg;
};

/* Threads come from tensor_set_threads and par_init. The model is borrowed and must not be used elsewhere meanwhile. */
int detector_open(struct model *m, struct detector_opts o, struct detector **out, struct err *e);
/* No clip is under way and nothing has failed: the detector can take another clip, for another receiver. Opening one costs
 * seconds of preparation; going on with it costs nothing. */
bool detector_ready(const struct detector *d);
void detector_receiver(struct detector *d, const struct detector_opts *o); /* takes emit and arg; d must be ready */
/* Takes an FRAME_RGB24 or FRAME_GRAY8 frame of any size; it is not kept. ERR_LIMIT for a size that cannot be processed.
 * After an error the detector only accepts detector_free. */
int detector_push(struct detector *d, const struct frame *f, struct err *e);
/* Runs what is left and emits it. Afterwards the detector is ready for another clip. */
int detector_finish(struct detector *d, struct err *e);
void detector_free(struct detector *d); /* NULL is fine */

#endif
