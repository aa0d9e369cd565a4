/* Samples for FGPLG. */
#include "core/train/guided.h"

#include <stdlib.h>

struct guided {
    int size;
};

int guided_new(int size, struct guided **out, struct err *e)
{
    (void)size;
    *out = NULL;
    return err_set(e, ERR_UNSUPPORTED, "fgplg training needs optical flow");
}

void guided_free(struct guided *g)
{
    free(g);
}

int guided_make(struct guided *g, struct dataset *d, size_t item, const struct shot_opts *o, bool held_out,
                struct rng *r, const struct batch *at, struct err *e)
{
    (void)g;
    (void)d;
    (void)item;
    (void)o;
    (void)held_out;
    (void)r;
    (void)at;
    return err_set(e, ERR_UNSUPPORTED, "fgplg training needs optical flow");
}
