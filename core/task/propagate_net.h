/* The label generator network (FGPLG) as propagation uses it: seven channels in, the probability of the object out. */
#ifndef CORE_TASK_PROPAGATE_NET_H
#define CORE_TASK_PROPAGATE_NET_H

#include "core/base/err.h"
#include "core/flow/fgplg_input.h"

struct model;
struct propagate_net;

/* net_px 0: see struct propagate_opts. ERR_INVALID when the model is not a generator (7 input channels). The model may be closed
 * afterwards. */
int propagate_net_open(struct model *m, int net_px, struct propagate_net **out, struct err *e);
/* Another one over the same network, for another thread; to be closed before `first`. */
int propagate_net_share(const struct propagate_net *first, struct propagate_net **out, struct err *e);
void propagate_net_close(struct propagate_net *n);
int propagate_net_px(const struct propagate_net *n);
/* prob: w x h, 0..1, the network's answer resampled to that size. */
int propagate_net_run(struct propagate_net *n, const struct flow_image *rgb, const struct fgplg_side sides[2], int w,
                      int h, float *prob, struct err *e);

#endif
