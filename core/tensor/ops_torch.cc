/*
 * The operations of tensor.h, each one libtorch call in the form that also traces well: two-element stride, padding and
 * dilation lists and double bounds in hardtanh are what the oneDNN passes of capture_torch.cc recognise.
 */
#include "core/tensor/torch_shim.h"

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

using namespace shim;

/* ---- convolution and normalisation ---------------------------------------------------------------------------------
 */

struct tensor *tensor_conv2d(struct scope *s, struct tensor *x, struct tensor *w, struct tensor *b, struct conv_opts o)
{
    return run(s, "conv2d", {x, w}, [&] {
        int64_t stride = o.stride ? o.stride : 1, dilation = o.dilation ? o.dilation : 1;
        return at::conv2d(val(x), val(w), b ? val(b) : at::Tensor(), {stride, stride}, {o.pad, o.pad},
                          {dilation, dilation}, o.groups ? o.groups : 1);
    });
}

struct tensor *tensor_batch_norm(struct scope *s, struct tensor *x, struct tensor *gamma, struct tensor *beta,
                                 struct tensor *mean, struct tensor *var, double eps)
{
    return run(s, "batch_norm", {x, gamma, beta, mean, var}, [&] {
        return at::batch_norm(val(x), val(gamma), val(beta), val(mean), val(var), false, 0.1, eps, true);
    });
}

struct tensor *tensor_batch_norm_train(struct scope *s, struct tensor *x, struct tensor *gamma, struct tensor *beta,
                                       struct tensor *mean, struct tensor *var, double eps, double momentum)
{
    return run(s, "batch_norm_train", {x, gamma, beta, mean, var}, [&] {
        return at::batch_norm(val(x), val(gamma), val(beta), val(mean), val(var), true, momentum, eps, true);
    });
}

/* ---- element by element --------------------------------------------------------------------------------------------
 */

struct tensor *tensor_relu(struct scope *s, struct tensor *x)
{
    return run(s, "relu", {x}, [&] { return at::relu(val(x)); });
}

struct tensor *tensor_relu6(struct scope *s, struct tensor *x)
{
    return run(s, "relu6", {x}, [&] { return at::hardtanh(val(x), 0.0, 6.0); });
}

struct tensor *tensor_sigmoid(struct scope *s, struct tensor *x)
{
    return run(s, "sigmoid", {x}, [&] { return at::sigmoid(val(x)); });
}

struct tensor *tensor_tanh(struct scope *s, struct tensor *x)
{
    return run(s, "tanh", {x}, [&] { return at::tanh(val(x)); });
}

struct tensor *tensor_exp(struct scope *s, struct tensor *x)
{
    return run(s, "exp", {x}, [&] { return at::exp(val(x)); });
}

struct tensor *tensor_log(struct scope *s, struct tensor *x)
{
    return run(s, "log", {x}, [&] { return at::log(val(x)); });
}

struct tensor *tensor_sqrt(struct scope *s, struct tensor *x)
{
    return run(s, "sqrt", {x}, [&] { return at::sqrt(val(x)); });
}

struct tensor *tensor_abs(struct scope *s, struct tensor *x)
{
    return run(s, "abs", {x}, [&] { return at::abs(val(x)); });
}

struct tensor *tensor_clamp(struct scope *s, struct tensor *x, double lo, double hi)
{
    return run(s, "clamp", {x}, [&] { return at::clamp(val(x), lo, hi); });
}

struct tensor *tensor_add(struct scope *s, struct tensor *a, struct tensor *b)
{
    return run(s, "add", {a, b}, [&] { return at::add(val(a), val(b)); });
}

struct tensor *tensor_sub(struct scope *s, struct tensor *a, struct tensor *b)
{
    return run(s, "sub", {a, b}, [&] { return at::sub(val(a), val(b)); });
}

struct tensor *tensor_mul(struct scope *s, struct tensor *a, struct tensor *b)
{
    return run(s, "mul", {a, b}, [&] { return at::mul(val(a), val(b)); });
}

struct tensor *tensor_div(struct scope *s, struct tensor *a, struct tensor *b)
{
    return run(s, "div", {a, b}, [&] { return at::div(val(a), val(b)); });
}

struct tensor *tensor_scale(struct scope *s, struct tensor *x, double mul, double add)
{
    return run(s, "scale", {x}, [&] {
        at::Tensor y = at::mul(val(x), mul);
        return add != 0 ? at::add(y, add) : y;
    });
}

/* ---- shape ---------------------------------------------------------------------------------------------------------
 */

struct tensor *tensor_matmul(struct scope *s, struct tensor *a, struct tensor *b)
{
    return run(s, "matmul", {a, b}, [&] { return at::matmul(val(a), val(b)); });
}

struct tensor *tensor_transpose(struct scope *s, struct tensor *x, int d0, int d1)
{
    return run(s, "transpose", {x}, [&] { return at::transpose(val(x), d0, d1); });
}

struct tensor *tensor_permute(struct scope *s, struct tensor *x, const int *dims)
{
    return run(s, "permute", {x}, [&] {
        std::vector<int64_t> order(dims, dims + tensor_ndim(x));
        return at::permute(val(x), order);
    });
}

struct tensor *tensor_reshape(struct scope *s, struct tensor *x, int ndim, const int64_t *shape)
{
    return run(s, "reshape", {x}, [&] {
        if (ndim < 0 || ndim > TENSOR_MAX_DIMS)
            throw std::invalid_argument(std::to_string(ndim) + " dimensions");
        return at::reshape(val(x), at::IntArrayRef(shape, (size_t)ndim));
    });
}

struct tensor *tensor_concat(struct scope *s, struct tensor *const *xs, int n, int dim)
{
    for (int i = 0; i < n; i++)
        if (!ready(s, "concat", {xs[i]}))
            return nullptr;
    return run(s, "concat", {}, [&] {
        std::vector<at::Tensor> list;
        for (int i = 0; i < n; i++)
            list.push_back(val(xs[i]));
        return at::cat(list, dim);
    });
}

struct tensor *tensor_slice(struct scope *s, struct tensor *x, int dim, int64_t start, int64_t len)
{
    return run(s, "slice", {x}, [&] { return at::narrow(val(x), dim, start, len); });
}

struct tensor *tensor_flip(struct scope *s, struct tensor *x, int dim)
{
    return run(s, "flip", {x}, [&] { return at::flip(val(x), {dim}); });
}

struct tensor *tensor_expand(struct scope *s, struct tensor *x, int ndim, const int64_t *shape)
{
    return run(s, "expand", {x}, [&] { return val(x).expand(shape_of(ndim, shape)); });
}

struct tensor *tensor_to(struct scope *s, struct tensor *x, enum tensor_dtype dt)
{
    return run(s, "to", {x}, [&] { return val(x).to(device(s), scalar_type(dt)); });
}

struct tensor *tensor_channels_last(struct scope *s, struct tensor *x)
{
    return run(s, "channels_last", {x}, [&] { return val(x).contiguous(at::MemoryFormat::ChannelsLast); });
}

struct tensor *tensor_contiguous(struct scope *s, struct tensor *x)
{
    return run(s, "contiguous", {x}, [&] { return val(x).contiguous(); });
}

struct tensor *tensor_detach(struct scope *s, struct tensor *x)
{
    return run(s, "detach", {x}, [&] { return x->v.detach(); });
}

/* ---- resizing, pooling, reductions ----------------------------------------------------------------------------------
 */

struct tensor *tensor_resize(struct scope *s, struct tensor *x, int64_t h, int64_t w, bool antialias)
{
    return run(s, "resize", {x}, [&] {
        at::Tensor v = val(x);
        if (v.dim() == 4 && v.size(2) == h && v.size(3) == w)
            return v;
        if (antialias)
            return at::_upsample_bilinear2d_aa(v, {h, w}, false);
        return at::upsample_bilinear2d(v, {h, w}, false);
    });
}

struct tensor *tensor_global_avg_pool(struct scope *s, struct tensor *x)
{
    return run(s, "global_avg_pool", {x}, [&] { return at::adaptive_avg_pool2d(val(x), {1, 1}); });
}

struct tensor *tensor_max_pool(struct scope *s, struct tensor *x, int k, int stride, int pad)
{
    return run(s, "max_pool", {x}, [&] {
        return at::max_pool2d(val(x), {k, k}, {stride, stride}, {pad, pad}, {1, 1});
    });
}

struct tensor *tensor_avg_pool(struct scope *s, struct tensor *x, int k, int stride, int pad)
{
    return run(s, "avg_pool", {x}, [&] { return at::avg_pool2d(val(x), {k, k}, {stride, stride}, {pad, pad}); });
}

struct tensor *tensor_dropout2d(struct scope *s, struct tensor *x, double p)
{
    return run(s, "dropout2d", {x}, [&] { return s->grad ? at::feature_dropout(val(x), p, true) : val(x); });
}

struct tensor *tensor_sum(struct scope *s, struct tensor *x)
{
    return run(s, "sum", {x}, [&] { return at::sum(val(x)); });
}

struct tensor *tensor_mean(struct scope *s, struct tensor *x)
{
    return run(s, "mean", {x}, [&] { return at::mean(val(x)); });
}

struct tensor *tensor_sum_dims(struct scope *s, struct tensor *x, const int *dims, int n)
{
    return run(s, "sum_dims", {x}, [&] {
        std::vector<int64_t> list(dims, dims + n);
        return at::sum(val(x), list, true);
    });
}

struct tensor *tensor_softmax(struct scope *s, struct tensor *x, int dim)
{
    return run(s, "softmax", {x}, [&] { return at::softmax(val(x), dim); });
}

struct tensor *tensor_sample(struct scope *s, struct tensor *x, struct tensor *grid)
{
    return run(s, "sample", {x, grid}, [&] {
        if (tensor_ndim(x) != 4 || tensor_ndim(grid) != 4 || tensor_dim(grid, 3) != 2)
            throw std::invalid_argument("needs (N,C,H,W) and (N,H',W',2)");
        /* libtorch wants -1..1 from edge to edge of the image: pixel centre p lies at (2p + 1)/size - 1. */
        at::Tensor size = at::tensor({(double)tensor_dim(x, 3), (double)tensor_dim(x, 2)}, val(grid).options());
        at::Tensor unit = at::sub(at::div(at::add(at::mul(val(grid), 2.0), 1.0), size), 1.0);
        const int64_t bilinear = 0, border = 1;
        return at::grid_sampler(val(x), unit, bilinear, border, false);
    });
}

struct tensor *tensor_bce_with_logits(struct scope *s, struct tensor *logits, struct tensor *target,
                                      struct tensor *weight)
{
    return run(s, "bce_with_logits", {logits, target}, [&] {
        if (!logits->v.sizes().equals(target->v.sizes()) || (weight && !weight->v.sizes().equals(logits->v.sizes())))
            throw std::invalid_argument("logits, target and weight must have one shape");
        return at::binary_cross_entropy_with_logits(val(logits), val(target), weight ? val(weight) : at::Tensor(),
                                                    at::Tensor(), at::Reduction::Mean);
    });
}
