/*
 * Private to core/tensor: what the *_torch.cc files share. The only header that includes torch.
 *
 * A tensor is an at::Tensor in its scope's intrusive list. Every entry point of tensor.h goes through run() or guard():
 * they check the scope and the inputs, set the gradient mode, and map whatever is thrown to an error; nothing escapes
 * into C.
 */
#ifndef CORE_TENSOR_TORCH_SHIM_H
#define CORE_TENSOR_TORCH_SHIM_H

#include <atomic>
#include <initializer_list>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include "core/tensor/tensor.h"

struct tensor {
    at::Tensor v;
    struct scope *owner;
    struct tensor *prev, *next;
};

struct scope {
    struct scope *parent;
    struct tensor_device dev;
    bool grad;
    std::atomic<int> children; /* scopes below that are not freed yet; threads may share a parent of weights */
    struct tensor *first;
    struct err err;
};

namespace shim
{

using Inputs = std::initializer_list<const struct tensor *>;

at::Device device(const struct scope *s);
at::ScalarType scalar_type(enum tensor_dtype dt);

/* The operand of an operation. While tracing, a weight that wants gradients is taken without them: it becomes a
 * constant. */
at::Tensor val(const struct tensor *t);

/* A view of a C shape; throws when ndim or a size is out of range or the product overflows. */
at::IntArrayRef shape_of(int ndim, const int64_t *shape);

/* Puts a result into the scope. */
struct tensor *adopt(struct scope *s, at::Tensor v);

/* Applies the process's thread number to the calling thread, on its first operation and after a change. */
void thread_setup();

/* False when the operation must not run: the scope is NULL or has failed, or an input is NULL (which fails the scope).
 */
bool ready(struct scope *s, const char *op, Inputs in) noexcept;

/* Inside a catch block: the exception as an ERR_* code with "op (shapes): text". Returns the code. */
int describe_exception(struct err *e, const char *op, Inputs in) noexcept;

/* The same for a scope, whose first error stays. Returns the scope's code. */
int fail_by_exception(struct scope *s, const char *op, Inputs in) noexcept;

/* Runs body() -> at::Tensor as operation `op` of scope s. */
template <class Body> struct tensor *run(struct scope *s, const char *op, Inputs in, Body &&body) noexcept
{
    if (!ready(s, op, in))
        return nullptr;
    try {
        thread_setup();
        c10::AutoGradMode mode(s->grad);
        return adopt(s, body());
    } catch (...) {
        fail_by_exception(s, op, in);
        return nullptr;
    }
}

/* Runs body() -> void in scope s; returns 0 or the scope's error. */
template <class Body> int guard(struct scope *s, const char *op, Inputs in, Body &&body) noexcept
{
    if (!ready(s, op, in))
        return scope_status(s, nullptr);
    try {
        thread_setup();
        c10::AutoGradMode mode(s->grad);
        body();
        return 0;
    } catch (...) {
        return fail_by_exception(s, op, in);
    }
}

} // namespace shim

#endif
