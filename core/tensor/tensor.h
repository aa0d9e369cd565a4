/*
 * tensor.h: a small, typed C ABI over libtorch. Compiles as C11 and C++17; tensor_torch.cc is the only file that
 * includes torch.
 *
 * Ownership. Every tensor belongs to a scope, an arena that frees all its tensors at once. scope_keep() moves one to
 * the parent scope. No tensor is freed alone. Weights live in a long-lived scope, a forward pass in a short one below
 * it.
 *
 * Errors are sticky in the scope: an operation on a failed scope returns NULL and does nothing, a NULL input makes the
 * result NULL (and fails the scope with ERR_INVALID if it had not failed), and the caller checks scope_status() once at
 * the end. The message names the operation and the shapes. A failed child fails its parent only when a result is kept.
 *
 * Threads: a scope and its tensors belong to one thread at a time. Different scopes may be used from different threads.
 * Several threads may make scopes below one parent and read its tensors (weights) as long as nobody adds to or changes
 * the parent.
 *
 * Layout: images are (N,C,H,W), clips stack frames along N. Convolution weights (O, I/groups, kH, kW). Arithmetic is
 * float32 unless stated; float16 is a storage type on the CPU.
 */
#ifndef CORE_TENSOR_TENSOR_H
#define CORE_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TENSOR_MAX_DIMS 6

enum tensor_dtype { TENSOR_F32, TENSOR_F16, TENSOR_F64, TENSOR_U8, TENSOR_I64, TENSOR_BF16 };

struct tensor;
struct scope;

struct tensor_device {
    enum { TENSOR_CPU, TENSOR_CUDA } type;
    int index;
};

/* ---- process-wide --------------------------------------------------------------------------------------------------
 */

/* Parses "cpu", "cuda", "cuda:N" or "auto" (first CUDA device, else CPU). ERR_DEVICE when CUDA is asked for and absent.
 */
int tensor_device_parse(const char *text, struct tensor_device *out, struct err *e);
/* Threads inside one operation. Must be called once before work: libtorch's own default here is 1. */
void tensor_set_threads(int n);
/* Operations called from this thread use at most n of them; 0 lifts the limit. For callers that run several networks side by side, which
 * costs less than threads meeting inside every operation. */
void tensor_thread_limit(int n);
/* "libtorch 1.13.1, oneDNN, OpenBLAS 0.3.21" for `version` and the start-up log. Static storage. */
/* Loads libtorch. Once, before any other call of this header and before threads start; the programs of tests need it not.
 * ERR_DEVICE when it cannot be loaded. */
int tensor_open(struct err *e);
const char *tensor_version(void);
/* Measures a small matrix product; 0 when BLAS is a fast one, ERR_DEVICE with advice when it is the reference BLAS. */
int tensor_check_blas(struct err *e);
void tensor_seed(uint64_t seed);

/* ---- scopes --------------------------------------------------------------------------------------------------------
 */

struct scope *scope_new(struct scope *parent,
                        struct tensor_device dev); /* parent may be NULL; NULL when out of memory */
void scope_free(struct scope *s);                  /* NULL is fine; children must be freed before */
struct tensor_device scope_device(const struct scope *s);
/* 0, or the first error of the scope. */
int scope_status(const struct scope *s, struct err *e);
void scope_fail(struct scope *s, int code, const char *fmt, ...) ERR_PRINTF(3, 4);
struct tensor *scope_keep(struct scope *s, struct tensor *t); /* moves t from s to s's parent; returns t or NULL */
/* Gradients are recorded in scopes with grad on; default off. Inherited by children made afterwards. */
void scope_set_grad(struct scope *s, bool on);
bool scope_grad(const struct scope *s);

/* ---- making and reading --------------------------------------------------------------------------------------------
 */

struct tensor *tensor_zeros(struct scope *s, enum tensor_dtype dt, int ndim, const int64_t *shape);
struct tensor *tensor_full(struct scope *s, double value, int ndim, const int64_t *shape); /* F32 */
/* Copies host memory (contiguous, row-major) to the scope's device. */
struct tensor *tensor_from(struct scope *s, const void *data, enum tensor_dtype dt, int ndim, const int64_t *shape);
/* Borrows host memory without copying (CPU scopes only); it must outlive the scope. */
struct tensor *tensor_borrow(struct scope *s, void *data, enum tensor_dtype dt, int ndim, const int64_t *shape);
struct tensor *tensor_randn(struct scope *s, double std, int ndim, const int64_t *shape);
int tensor_ndim(const struct tensor *t);           /* 0 for NULL */
int64_t tensor_dim(const struct tensor *t, int i); /* negative i counts from the end; 0 for NULL or out of range */
int64_t tensor_numel(const struct tensor *t);
enum tensor_dtype tensor_dtype_of(const struct tensor *t);
/* Copies out as contiguous row-major float32 (n must equal numel) / raw bytes of the tensor's own type. */
int tensor_read_f32(struct scope *s, const struct tensor *t, float *out, int64_t n);
int tensor_read_raw(struct scope *s, const struct tensor *t, void *out, size_t bytes);
double tensor_item(struct scope *s, const struct tensor *t); /* one-element tensor; NaN on failure */
/* Pointer to contiguous (N,C,H,W row-major) float32/u8 CPU memory of t, making it contiguous first if needed; lives as
 * long as the returned tensor's scope. Used to hand data to core/kernel. NULL on failure. */
const void *tensor_data(struct scope *s, struct tensor *t);

/* ---- operations: each returns a new tensor in scope s, or NULL */

struct conv_opts {
    int stride, pad, dilation, groups; /* 0 means the default: 1, 0, 1, 1; the same for both axes */
};
/* x (N,C,H,W), w (O,C/groups,kH,kW), b (O) or NULL -> (N,O,H',W') */
struct tensor *tensor_conv2d(struct scope *s, struct tensor *x, struct tensor *w, struct tensor *b, struct conv_opts o);
/* Inference-statistics batch norm, affine: (x - mean) / sqrt(var + eps) * gamma + beta. */
struct tensor *tensor_batch_norm(struct scope *s, struct tensor *x, struct tensor *gamma, struct tensor *beta,
                                 struct tensor *mean, struct tensor *var, double eps);
/* Batch statistics; updates mean and var in place with `momentum` (torch convention: new = (1-m)*old + m*batch). */
struct tensor *tensor_batch_norm_train(struct scope *s, struct tensor *x, struct tensor *gamma, struct tensor *beta,
                                       struct tensor *mean, struct tensor *var, double eps, double momentum);
struct tensor *tensor_relu(struct scope *s, struct tensor *x);
struct tensor *tensor_relu6(struct scope *s, struct tensor *x);
struct tensor *tensor_sigmoid(struct scope *s, struct tensor *x);
struct tensor *tensor_tanh(struct scope *s, struct tensor *x);
struct tensor *tensor_exp(struct scope *s, struct tensor *x);
struct tensor *tensor_log(struct scope *s, struct tensor *x);
struct tensor *tensor_sqrt(struct scope *s, struct tensor *x);
struct tensor *tensor_abs(struct scope *s, struct tensor *x);
struct tensor *tensor_clamp(struct scope *s, struct tensor *x, double lo, double hi);
struct tensor *tensor_add(struct scope *s, struct tensor *a, struct tensor *b); /* these four broadcast */
struct tensor *tensor_sub(struct scope *s, struct tensor *a, struct tensor *b);
struct tensor *tensor_mul(struct scope *s, struct tensor *a, struct tensor *b);
struct tensor *tensor_div(struct scope *s, struct tensor *a, struct tensor *b);
struct tensor *tensor_scale(struct scope *s, struct tensor *x, double mul, double add); /* x*mul + add */
struct tensor *tensor_matmul(struct scope *s, struct tensor *a, struct tensor *b);      /* batched as torch.matmul */
struct tensor *tensor_transpose(struct scope *s, struct tensor *x, int d0, int d1);
struct tensor *tensor_permute(struct scope *s, struct tensor *x, const int *dims); /* tensor_ndim(x) entries */
struct tensor *tensor_reshape(struct scope *s, struct tensor *x, int ndim, const int64_t *shape); /* one -1 allowed */
struct tensor *tensor_concat(struct scope *s, struct tensor *const *xs, int n, int dim);
struct tensor *tensor_slice(struct scope *s, struct tensor *x, int dim, int64_t start, int64_t len);
struct tensor *tensor_flip(struct scope *s, struct tensor *x, int dim);
struct tensor *tensor_expand(struct scope *s, struct tensor *x, int ndim, const int64_t *shape);
struct tensor *tensor_to(struct scope *s, struct tensor *x, enum tensor_dtype dt); /* also moves to s's device */
struct tensor *tensor_channels_last(struct scope *s, struct tensor *x); /* (N,C,H,W) stored NHWC; shape unchanged */
struct tensor *tensor_contiguous(struct scope *s, struct tensor *x);
struct tensor *tensor_detach(struct scope *s, struct tensor *x); /* same values, cut off from the recorded gradients */
/* Bilinear, align_corners=False, scale taken from the sizes. antialias as torchvision's resize (triangle filter when
 * shrinking). */
struct tensor *tensor_resize(struct scope *s, struct tensor *x, int64_t h, int64_t w, bool antialias);
struct tensor *tensor_global_avg_pool(struct scope *s, struct tensor *x); /* (N,C,H,W) -> (N,C,1,1) */
struct tensor *tensor_max_pool(struct scope *s, struct tensor *x, int k, int stride, int pad);
struct tensor *tensor_avg_pool(struct scope *s, struct tensor *x, int k, int stride, int pad);
struct tensor *tensor_dropout2d(struct scope *s, struct tensor *x, double p); /* identity when gradients are off */
struct tensor *tensor_sum(struct scope *s, struct tensor *x);                 /* scalars */
struct tensor *tensor_mean(struct scope *s, struct tensor *x);
struct tensor *tensor_sum_dims(struct scope *s, struct tensor *x, const int *dims, int n); /* keeps dims as 1 */
struct tensor *tensor_softmax(struct scope *s, struct tensor *x, int dim);
/* Backward-warp: grid (N,H,W,2) of x,y in pixels of x; bilinear, clamped to the border. */
struct tensor *tensor_sample(struct scope *s, struct tensor *x, struct tensor *grid);
/* Mean over all elements of weight * BCE(sigmoid(logits), target), numerically stable; weight may be NULL (ones), same
 * shape. */
struct tensor *tensor_bce_with_logits(struct scope *s, struct tensor *logits, struct tensor *target,
                                      struct tensor *weight);

/* ---- training ------------------------------------------------------------------------------------------------------
 */

/* Marks a leaf (a weight) as wanting gradients. */
void tensor_require_grad(struct scope *s, struct tensor *t, bool on);
/* Back-propagates from a scalar; gradients accumulate in the leaves. */
int tensor_backward(struct scope *s, struct tensor *loss);
/* The leaf's gradient as a new tensor in s (a copy), NULL without failing the scope when it has none. */
struct tensor *tensor_grad(struct scope *s, struct tensor *leaf);
/* dst += or = src without recording gradients. */
int tensor_copy_into(struct scope *s, struct tensor *dst, struct tensor *src);
/* dst = dst*decay + src*(1-decay), without gradients: EMA of weights. */
int tensor_lerp_into(struct scope *s, struct tensor *dst, struct tensor *src, double decay);

enum optim_kind {
    OPTIM_SGD,
    OPTIM_ADAM
}; /* SGD: lr, momentum, weight_decay (coupled). ADAM: decoupled decay when adamw */
struct optim_opts {
    enum optim_kind kind;
    double lr, momentum, beta1, beta2, eps, weight_decay; /* exact values, no hidden defaults */
    bool adamw;
};
struct optim;
struct optim *optim_new(struct scope *s, struct tensor *const *params, const double *lr_scale, size_t n,
                        struct optim_opts o);
void optim_free(struct optim *o);
void optim_set_lr(struct optim *o, double lr);
void optim_zero_grad(struct optim *o);
/* Clips the global gradient norm to max_norm (0: no clipping), writes the norm before clipping to *norm (may be NULL),
 * then steps. ERR_COMPUTE, and no step, when the norm is not finite. */
int optim_step(struct optim *o, double max_norm, double *norm, struct err *e);
/* State for checkpoints: visits every state tensor with a stable name ("adam.m.3"), and the step count. On load, the
 * visitor copies into the tensor it is given. */
typedef int (*optim_state_fn)(void *arg, const char *name, struct tensor *t, struct err *e);
int optim_visit_state(struct optim *o, struct scope *s, optim_state_fn fn, void *arg, struct err *e);
int64_t optim_steps(const struct optim *o);
void optim_set_steps(struct optim *o, int64_t steps);

/* ---- capture: one definition of a network, run as a fused graph */

/*
 * Traces fn once for the given inputs, freezes it (weights become constants) and optimises it for inference (oneDNN
 * fusion and blocked layouts on the CPU). The plan is bound to the shapes of the example inputs. fn sees the inputs in
 * a scope of its own and writes n_out outputs; it must not branch on tensor values. `weights` named in the plan must
 * not change afterwards.
 */
typedef int (*capture_fn)(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out,
                          int n_out);
struct capture;
struct capture *capture_new(struct scope *s, capture_fn fn, void *arg, struct tensor *const *example, int n_in,
                            int n_out, struct err *e);
/* Outputs are made in s. 0 or the scope's error. */
int capture_run(struct capture *c, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out);
void capture_free(struct capture *c);

#ifdef __cplusplus
}
#endif
#endif
