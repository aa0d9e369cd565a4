/*
 * Gradients and optimisers. SGD and Adam are written out over libtorch's in-place kernels rather than taken from
 * torch::optim, so that every number is visible here, the state has stable names for checkpoints, and a step that would
 * spoil the weights (a gradient that is not finite) is refused as a whole.
 *
 * An optimiser holds references to its parameters' storage, so it may outlive the scope they were made in.
 */
#include "core/tensor/torch_shim.h"

#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace shim;

/* ---- gradients -----------------------------------------------------------------------------------------------------
 */

void tensor_require_grad(struct scope *s, struct tensor *t, bool on)
{
    guard(s, "require_grad", {t}, [&] { t->v.requires_grad_(on); });
}

int tensor_backward(struct scope *s, struct tensor *loss)
{
    return guard(s, "backward", {loss}, [&] {
        if (loss->v.numel() != 1)
            throw std::invalid_argument("the loss is not a scalar");
        if (!loss->v.requires_grad())
            throw std::invalid_argument("nothing to differentiate: no gradients were recorded");
        loss->v.backward();
    });
}

struct tensor *tensor_grad(struct scope *s, struct tensor *leaf)
{
    if (ready(s, "grad", {leaf}) && !leaf->v.grad().defined())
        return nullptr;
    return run(s, "grad", {leaf}, [&] { return leaf->v.grad().detach().clone(); });
}

int tensor_copy_into(struct scope *s, struct tensor *dst, struct tensor *src)
{
    return guard(s, "copy_into", {dst, src}, [&] {
        c10::NoGradGuard off;
        if (!dst->v.sizes().equals(src->v.sizes()))
            throw std::invalid_argument("the shapes differ");
        dst->v.copy_(src->v);
    });
}

int tensor_lerp_into(struct scope *s, struct tensor *dst, struct tensor *src, double decay)
{
    return guard(s, "lerp_into", {dst, src}, [&] {
        c10::NoGradGuard off;
        if (!dst->v.sizes().equals(src->v.sizes()))
            throw std::invalid_argument("the shapes differ");
        dst->v.lerp_(src->v.to(dst->v.scalar_type()), 1.0 - decay);
    });
}

/* ---- optimisers ----------------------------------------------------------------------------------------------------
 */

struct slot { /* one parameter and what the method remembers about it */
    at::Tensor param;
    double lr_scale;
    at::Tensor m, v; /* Adam: first and second moment; SGD: m is the momentum buffer, v is unused */
};

struct optim {
    struct optim_opts o;
    int64_t steps;
    std::vector<slot> slots;
};

struct optim *optim_new(struct scope *s, struct tensor *const *params, const double *lr_scale, size_t n,
                        struct optim_opts o)
{
    std::unique_ptr<optim> made;
    guard(s, "optim_new", {}, [&] {
        made = std::make_unique<optim>(optim{o, 0, {}});
        for (size_t i = 0; i < n; i++) {
            if (!params[i])
                throw std::invalid_argument("parameter " + std::to_string(i) + " is NULL");
            slot x{params[i]->v, lr_scale ? lr_scale[i] : 1.0, {}, {}};
            if (o.kind == OPTIM_ADAM || o.momentum != 0)
                x.m = at::zeros_like(x.param);
            if (o.kind == OPTIM_ADAM)
                x.v = at::zeros_like(x.param);
            made->slots.push_back(std::move(x));
        }
    });
    return scope_status(s, nullptr) ? nullptr : made.release();
}

void optim_free(struct optim *o)
{
    delete o;
}

void optim_set_lr(struct optim *o, double lr)
{
    o->o.lr = lr;
}

int64_t optim_steps(const struct optim *o)
{
    return o->steps;
}

void optim_set_steps(struct optim *o, int64_t steps)
{
    o->steps = steps;
}

void optim_zero_grad(struct optim *o)
{
    for (slot &x : o->slots)
        x.param.mutable_grad() = at::Tensor();
}

static double gradient_norm(const std::vector<slot> &slots)
{
    std::vector<at::Tensor> norms;
    for (const slot &x : slots)
        if (x.param.grad().defined())
            norms.push_back(at::norm(x.param.grad()).to(at::kDouble));
    return norms.empty() ? 0.0 : at::norm(at::stack(norms)).item().toDouble();
}

/* Momentum SGD with the decay coupled into the gradient: b = momentum*b + (g + decay*p); p -= lr*b. */
static void sgd_update(const struct optim_opts &o, slot &x, const at::Tensor &grad)
{
    at::Tensor g = o.weight_decay != 0 ? at::add(grad, x.param, o.weight_decay) : grad;
    if (o.momentum != 0)
        g = x.m.mul_(o.momentum).add_(g);
    x.param.add_(g, -o.lr * x.lr_scale);
}

/* Adam (Kingma and Ba 2015, algorithm 1); with adamw the decay acts on the weights alone (Loshchilov and Hutter 2019).
 */
static void adam_update(const struct optim_opts &o, int64_t step, slot &x, const at::Tensor &grad)
{
    double lr = o.lr * x.lr_scale;
    at::Tensor g = grad;
    if (o.weight_decay != 0 && o.adamw)
        x.param.mul_(1.0 - lr * o.weight_decay);
    else if (o.weight_decay != 0)
        g = at::add(grad, x.param, o.weight_decay);
    x.m.mul_(o.beta1).add_(g, 1.0 - o.beta1);
    x.v.mul_(o.beta2).addcmul_(g, g, 1.0 - o.beta2);
    double bias1 = 1.0 - std::pow(o.beta1, (double)step), bias2 = 1.0 - std::pow(o.beta2, (double)step);
    at::Tensor denom = at::sqrt(x.v).div_(std::sqrt(bias2)).add_(o.eps);
    x.param.addcdiv_(x.m, denom, -lr / bias1);
}

static void step_all(struct optim *o, double clip)
{
    o->steps++;
    for (slot &x : o->slots) {
        at::Tensor g = x.param.grad();
        if (!g.defined())
            continue;
        if (clip < 1.0)
            g = at::mul(g, clip);
        if (o->o.kind == OPTIM_SGD)
            sgd_update(o->o, x, g);
        else
            adam_update(o->o, o->steps, x, g);
    }
}

int optim_step(struct optim *o, double max_norm, double *norm, struct err *e)
{
    try {
        thread_setup();
        c10::NoGradGuard off;
        double total = gradient_norm(o->slots);
        if (norm)
            *norm = total;
        if (!std::isfinite(total))
            return err_set(e, ERR_COMPUTE, "optimiser step %lld: the gradient is not finite", (long long)o->steps + 1);
        step_all(o, max_norm > 0 ? max_norm / (total + 1e-6) : 1.0);
        return 0;
    } catch (...) {
        return describe_exception(e, "optim_step", {});
    }
}

int optim_visit_state(struct optim *o, struct scope *s, optim_state_fn fn, void *arg, struct err *e)
{
    auto visit = [&](const char *method, const char *what, size_t i, const at::Tensor &v) {
        if (!v.defined())
            return 0;
        std::string name = std::string(method) + "." + what + "." + std::to_string(i);
        struct tensor *t = run(s, "optim_visit_state", {}, [&] { return v; });
        return t ? fn(arg, name.c_str(), t, e) : scope_status(s, e);
    };
    try {
        bool adam = o->o.kind == OPTIM_ADAM;
        for (size_t i = 0; i < o->slots.size(); i++) {
            const slot &x = o->slots[i];
            int rc = visit(adam ? "adam" : "sgd", adam ? "m" : "momentum", i, x.m);
            if (!rc)
                rc = visit("adam", "v", i, x.v);
            if (rc)
                return rc;
        }
        return 0;
    } catch (...) {
        return describe_exception(e, "optim_visit_state", {});
    }
}
