/*
 * The tensor shim: scopes, devices, and the mapping from exceptions to errors; making and reading tensors.
 * The operations are in ops_torch.cc, optimisers in optim_torch.cc, traced graphs in capture_torch.cc.
 *
 * Invariants: a struct tensor is in exactly one scope's list; a scope with children is never freed; no exception leaves
 * this folder. Left out on purpose: freeing a tensor alone, in-place arithmetic, views that outlive their scope.
 */
#include "core/tensor/torch_shim.h"

#include <cmath>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>

#include <torch/version.h>

/* Present when OpenBLAS is linked (Debian's libtorch calls it); absent from libtorch builds that bring their own BLAS.
 */
extern "C" {
void openblas_set_num_threads(int n) __attribute__((weak));
char *openblas_get_config(void) __attribute__((weak));
}

namespace shim
{

/* ---- threads -------------------------------------------------------------------------------------------------------
 */

/* OpenMP keeps its number of threads per calling thread, so a change has to reach every thread that computes. */
static std::mutex threads_lock;
static int threads_wanted = 0;
static std::atomic<int> threads_generation{0};
static thread_local int threads_limit = 0; /* of the calling thread; 0: none */
static thread_local int threads_seen = 0;  /* the generation that the calling thread has taken over */

void thread_setup()
{
    int now = threads_generation.load(std::memory_order_acquire);
    if (threads_seen == now)
        return;
    std::lock_guard<std::mutex> hold(threads_lock);
    at::set_num_threads(threads_limit > 0 ? std::min(threads_limit, std::max(threads_wanted, 1)) : threads_wanted);
    threads_seen = now;
}

/* ---- exceptions to errors ------------------------------------------------------------------------------------------
 */

static bool contains(const char *text, std::initializer_list<const char *> parts)
{
    for (const char *p : parts)
        if (strstr(text, p))
            return true;
    return false;
}

static int code_of(const char *text)
{
    if (contains(text, {"can't allocate memory", "not enough memory", "out of memory", "bad_alloc"}))
        return ERR_NOMEM;
    if (contains(text, {"no CUDA device", "not compiled with CUDA", "no NVIDIA driver"}))
        return ERR_DEVICE;
    if (contains(text, {"CUDA error", "device-side assert", "CUBLAS_STATUS_", "CUDNN_STATUS_", "cuDNN error"}))
        return ERR_DEVICE_LOST;
    return ERR_COMPUTE;
}

static std::string shapes_text(Inputs in)
{
    std::string out;
    for (const struct tensor *t : in) {
        out += out.empty() ? " " : ", ";
        if (!t || !t->v.defined()) {
            out += "NULL";
            continue;
        }
        out += "(";
        for (int64_t i = 0; i < t->v.dim(); i++)
            out += (i ? "," : "") + std::to_string(t->v.size(i));
        out += ")";
    }
    return out;
}

/* libtorch's texts run over many lines with C++ stack frames; the first line says it. */
static int set_error(struct err *e, int code, const char *op, Inputs in, const char *text) noexcept
{
    int len = (int)strcspn(text, "\n");
    try {
        return err_set(e, code, "%s%s: %.*s", op, shapes_text(in).c_str(), len, text);
    } catch (...) {
        return err_set(e, code, "%s: %.*s", op, len, text);
    }
}

int describe_exception(struct err *e, const char *op, Inputs in) noexcept
{
    try {
        throw;
    } catch (const c10::OutOfMemoryError &x) {
        return set_error(e, ERR_NOMEM, op, in, x.what_without_backtrace());
    } catch (const c10::Error &x) {
        return set_error(e, code_of(x.what_without_backtrace()), op, in, x.what_without_backtrace());
    } catch (const std::bad_alloc &) {
        return set_error(e, ERR_NOMEM, op, in, "out of memory");
    } catch (const std::length_error &) {
        return set_error(e, ERR_NOMEM, op, in, "out of memory");
    } catch (const std::invalid_argument &x) {
        return set_error(e, ERR_INVALID, op, in, x.what());
    } catch (const std::exception &x) {
        return set_error(e, code_of(x.what()), op, in, x.what());
    } catch (...) {
        return set_error(e, ERR_INTERNAL, op, in, "unknown exception");
    }
}

int fail_by_exception(struct scope *s, const char *op, Inputs in) noexcept
{
    return s->err.code ? s->err.code : describe_exception(&s->err, op, in);
}

bool ready(struct scope *s, const char *op, Inputs in) noexcept
{
    if (!s || s->err.code)
        return false;
    int i = 0;
    for (const struct tensor *t : in) {
        if (!t) {
            err_set(&s->err, ERR_INVALID, "%s: input %d is NULL", op, i);
            return false;
        }
        i++;
    }
    return true;
}

/* ---- values --------------------------------------------------------------------------------------------------------
 */

at::Device device(const struct scope *s)
{
    if (s->dev.type == tensor_device::TENSOR_CUDA) {
        if (s->dev.index < 0 || (size_t)s->dev.index >= (size_t)at::getNumGPUs())
            throw std::runtime_error("no CUDA device " + std::to_string(s->dev.index) + " here");
        return at::Device(at::kCUDA, (c10::DeviceIndex)s->dev.index);
    }
    return at::Device(at::kCPU);
}

at::ScalarType scalar_type(enum tensor_dtype dt)
{
    switch (dt) {
    case TENSOR_F32:
        return at::kFloat;
    case TENSOR_F16:
        return at::kHalf;
    case TENSOR_F64:
        return at::kDouble;
    case TENSOR_U8:
        return at::kByte;
    case TENSOR_I64:
        return at::kLong;
    case TENSOR_BF16:
        return at::kBFloat16;
    }
    throw std::invalid_argument("unknown element type " + std::to_string((int)dt));
}

at::IntArrayRef shape_of(int ndim, const int64_t *shape)
{
    if (ndim < 0 || ndim > TENSOR_MAX_DIMS)
        throw std::invalid_argument(std::to_string(ndim) + " dimensions, at most " + std::to_string(TENSOR_MAX_DIMS));
    int64_t n = 16; /* the largest element, so that the size in bytes is known to fit too */
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(n, std::max<int64_t>(shape[i], 1), &n))
            throw std::invalid_argument("size " + std::to_string(shape[i]) + " of dimension " + std::to_string(i) +
                                        " is negative or makes the tensor too large");
    return at::IntArrayRef(shape, (size_t)ndim);
}

struct tensor *adopt(struct scope *s, at::Tensor v)
{
    auto *t = new tensor{std::move(v), s, nullptr, s->first};
    if (s->first)
        s->first->prev = t;
    s->first = t;
    return t;
}

static void unlink(struct tensor *t)
{
    (t->prev ? t->prev->next : t->owner->first) = t->next;
    if (t->next)
        t->next->prev = t->prev;
}

} // namespace shim

using namespace shim;

/* ---- process-wide --------------------------------------------------------------------------------------------------
 */

int tensor_device_parse(const char *text, struct tensor_device *out, struct err *e)
{
    int have = 0;
    try {
        have = (int)at::getNumGPUs();
    } catch (...) {
        have = 0;
    }
    *out = {};
    if (!strcmp(text, "cpu"))
        return 0;
    if (!strcmp(text, "auto")) {
        out->type = have > 0 ? tensor_device::TENSOR_CUDA : tensor_device::TENSOR_CPU;
        return 0;
    }
    int index = 0;
    if (strcmp(text, "cuda") != 0) {
        if (strncmp(text, "cuda:", 5) != 0 || !text[5] || strlen(text) > 8 ||
            strspn(text + 5, "0123456789") != strlen(text + 5))
            return err_set(e, ERR_INVALID, "device \"%s\": not cpu, cuda, cuda:N or auto", text);
        index = atoi(text + 5);
    }
    if (index >= have)
        return err_set(e, ERR_DEVICE, "device %s: this machine and this libtorch have %d CUDA devices", text, have);
    out->type = tensor_device::TENSOR_CUDA;
    out->index = index;
    return 0;
}

void tensor_set_threads(int n)
{
    BUG_ON(n < 1);
    std::lock_guard<std::mutex> hold(threads_lock);
    threads_wanted = n;
    threads_generation.fetch_add(1, std::memory_order_release);
    /* What reaches BLAS is small; its threads would spin between calls on the cores that the convolutions need. */
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
}

void tensor_thread_limit(int n)
{
    BUG_ON(n < 0);
    if (n == threads_limit)
        return;
    std::lock_guard<std::mutex> hold(threads_lock);
    threads_limit = n;
    if (threads_wanted == 0) /* nobody has chosen a number yet: libtorch's own default */
        threads_wanted = at::get_num_threads();
    threads_seen = -1;
}

const char *tensor_version(void)
{
    static const std::string text = [] {
        std::string v = "libtorch " TORCH_VERSION;
        if (at::globalContext().hasMKLDNN())
            v += ", oneDNN";
        if (at::globalContext().hasMKL())
            v += ", MKL";
        if (openblas_get_config) {
            std::string config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_AFFINITY ..." */
            size_t end = config.find(' ', config.find(' ') + 1);
            v += ", " + config.substr(0, end);
        }
        return v;
    }();
    return text.c_str();
}

/* CPU time of the calling thread: a busy machine must not make a fast BLAS look slow. */
static double cpu_seconds()
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int tensor_check_blas(struct err *e)
{
    /* Small enough that a BLAS stays in this thread and in its cache. A reference BLAS reaches 1 to 5 GFLOP/s, a tuned one
     * 20 to 100. */
    const int64_t n = 64, products = 20;
    const double min_gflops = 10;
    double best_s = std::numeric_limits<double>::infinity();
    struct scope *s = scope_new(nullptr, tensor_device{});
    int rc = guard(s, "tensor_check_blas", {}, [&] {
        at::Tensor a = at::ones({n, n}), b = at::ones({n, n});
        at::Tensor c = at::empty({n, n});
        for (int round = 0; round < 10; round++) {
            double start = cpu_seconds();
            for (int64_t i = 0; i < products; i++)
                at::mm_out(c, a, b);
            best_s = std::min(best_s, cpu_seconds() - start);
        }
    });
    scope_status(s, e);
    scope_free(s);
    double gflops = 2.0 * (double)(products * n * n * n) / best_s * 1e-9;
    if (rc == 0 && gflops < min_gflops)
        return err_set(
            e, ERR_DEVICE,
            "matrix products run at %.1f GFLOP/s: libtorch uses a reference BLAS; install OpenBLAS "
            "(Debian: libopenblas0-pthread, then update-alternatives --config libblas.so.3-$(arch)-linux-gnu)",
            gflops);
    return rc;
}

void tensor_seed(uint64_t seed)
{
    at::manual_seed(seed);
}

/* ---- scopes --------------------------------------------------------------------------------------------------------
 */

struct scope *scope_new(struct scope *parent, struct tensor_device dev)
{
    auto *s = new (std::nothrow) scope{};
    if (!s)
        return nullptr;
    s->parent = parent;
    s->dev = dev;
    if (parent) {
        s->grad = parent->grad;
        parent->children++;
    }
    return s;
}

void scope_free(struct scope *s)
{
    if (!s)
        return;
    BUG_ON(s->children != 0);
    while (s->first) {
        struct tensor *t = s->first;
        s->first = t->next;
        delete t;
    }
    if (s->parent)
        s->parent->children--;
    delete s;
}

struct tensor_device scope_device(const struct scope *s)
{
    return s ? s->dev : tensor_device{};
}

int scope_status(const struct scope *s, struct err *e)
{
    if (!s)
        return err_set(e, ERR_NOMEM, "no tensor scope: out of memory");
    if (s->err.code && e)
        *e = s->err;
    return s->err.code;
}

void scope_fail(struct scope *s, int code, const char *fmt, ...)
{
    if (!s || s->err.code)
        return;
    char text[sizeof s->err.msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&s->err, code, "%s", text);
}

struct tensor *scope_keep(struct scope *s, struct tensor *t)
{
    if (!s)
        return nullptr;
    BUG_ON(!s->parent);
    if (!ready(s, "scope_keep", {t})) {
        scope_fail(s->parent, s->err.code, "%s", s->err.msg);
        return nullptr;
    }
    if (s->parent->err.code)
        return nullptr;
    BUG_ON(t->owner != s);
    unlink(t);
    t->owner = s->parent;
    t->prev = nullptr;
    t->next = s->parent->first;
    if (t->next)
        t->next->prev = t;
    s->parent->first = t;
    return t;
}

void scope_set_grad(struct scope *s, bool on)
{
    if (s)
        s->grad = on;
}

bool scope_grad(const struct scope *s)
{
    return s && s->grad;
}

/* ---- making and reading --------------------------------------------------------------------------------------------
 */

struct tensor *tensor_zeros(struct scope *s, enum tensor_dtype dt, int ndim, const int64_t *shape)
{
    return run(s, "tensor_zeros", {},
               [&] { return at::zeros(shape_of(ndim, shape), at::dtype(scalar_type(dt)).device(device(s))); });
}

struct tensor *tensor_full(struct scope *s, double value, int ndim, const int64_t *shape)
{
    return run(s, "tensor_full", {},
               [&] { return at::full(shape_of(ndim, shape), value, at::dtype(at::kFloat).device(device(s))); });
}

struct tensor *tensor_from(struct scope *s, const void *data, enum tensor_dtype dt, int ndim, const int64_t *shape)
{
    return run(s, "tensor_from", {}, [&] {
        at::Tensor host = at::empty(shape_of(ndim, shape), at::dtype(scalar_type(dt)));
        if (host.nbytes()) /* by bytes: `data` may be an unaligned place in a file */
            memcpy(host.data_ptr(), data, host.nbytes());
        return host.to(device(s));
    });
}

struct tensor *tensor_borrow(struct scope *s, void *data, enum tensor_dtype dt, int ndim, const int64_t *shape)
{
    return run(s, "tensor_borrow", {}, [&] {
        if (!device(s).is_cpu())
            throw std::invalid_argument("host memory can be borrowed on the CPU only");
        return at::from_blob(data, shape_of(ndim, shape), at::dtype(scalar_type(dt)));
    });
}

struct tensor *tensor_randn(struct scope *s, double std, int ndim, const int64_t *shape)
{
    return run(s, "tensor_randn", {},
               [&] { return at::randn(shape_of(ndim, shape), at::dtype(at::kFloat).device(device(s))).mul_(std); });
}

int tensor_ndim(const struct tensor *t)
{
    return t ? (int)t->v.dim() : 0;
}

int64_t tensor_dim(const struct tensor *t, int i)
{
    int n = tensor_ndim(t);
    if (i < 0)
        i += n;
    return i >= 0 && i < n ? t->v.sizes()[(size_t)i] : 0;
}

int64_t tensor_numel(const struct tensor *t)
{
    return t ? t->v.numel() : 0;
}

enum tensor_dtype tensor_dtype_of(const struct tensor *t)
{
    switch (t->v.scalar_type()) {
    case at::kHalf:
        return TENSOR_F16;
    case at::kDouble:
        return TENSOR_F64;
    case at::kByte:
        return TENSOR_U8;
    case at::kLong:
        return TENSOR_I64;
    case at::kBFloat16:
        return TENSOR_BF16;
    default:
        BUG_ON(t->v.scalar_type() != at::kFloat);
        return TENSOR_F32;
    }
}

static at::Tensor to_host(const at::Tensor &v)
{
    return v.detach().to(at::kCPU).contiguous();
}

int tensor_read_f32(struct scope *s, const struct tensor *t, float *out, int64_t n)
{
    return guard(s, "tensor_read_f32", {t}, [&] {
        if (n != t->v.numel())
            throw std::invalid_argument("room for " + std::to_string(n) + " numbers");
        at::Tensor host = to_host(t->v).to(at::kFloat);
        if (n)
            memcpy(out, host.data_ptr(), (size_t)n * sizeof *out);
    });
}

int tensor_read_raw(struct scope *s, const struct tensor *t, void *out, size_t bytes)
{
    return guard(s, "tensor_read_raw", {t}, [&] {
        at::Tensor host = to_host(t->v);
        if (bytes != host.nbytes())
            throw std::invalid_argument("room for " + std::to_string(bytes) + " bytes");
        if (bytes)
            memcpy(out, host.data_ptr(), bytes);
    });
}

double tensor_item(struct scope *s, const struct tensor *t)
{
    double x = std::numeric_limits<double>::quiet_NaN();
    guard(s, "tensor_item", {t}, [&] {
        if (t->v.numel() != 1)
            throw std::invalid_argument("not a one-element tensor");
        x = t->v.item().toDouble();
    });
    return x;
}

const void *tensor_data(struct scope *s, struct tensor *t)
{
    const void *p = nullptr;
    guard(s, "tensor_data", {t}, [&] {
        at::Tensor host = to_host(t->v.scalar_type() == at::kByte ? t->v : t->v.to(at::kFloat));
        p = host.data_ptr();
        if (!host.is_alias_of(t->v)) /* a copy was made: it lives in s */
            adopt(s, host);
    });
    return p;
}
