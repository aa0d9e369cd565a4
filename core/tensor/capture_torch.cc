/*
 * Capture: a network function traced once, its weights folded in as constants, rewritten for inference and run as a
 * graph.
 *
 * The trace comes from libtorch's own tracer, so every operation of tensor.h works in it. Then: batch norms fold into
 * their convolutions, and on the CPU the oneDNN pass prepacks the weights, keeps blocked layouts between convolutions
 * and fuses the activations. The graph runs in the plain interpreter: no profiling, no re-optimisation, so the first
 * run costs what the hundredth does and runs from several threads share nothing but constants.
 *
 * Left out: other shapes than the example's (the caller captures again), control flow on values (a trace cannot see
 * it).
 */
#include "core/tensor/torch_shim.h"

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/frozen_conv_add_relu_fusion.h>
#include <torch/csrc/jit/passes/frozen_graph_optimizations.h>
#include <torch/csrc/jit/passes/frozen_ops_to_mkldnn.h>
#include <torch/csrc/jit/passes/graph_rewrite_helper.h>
#include <torch/csrc/jit/runtime/interpreter.h>

using namespace shim;
namespace jit = torch::jit;

struct signature { /* what a plan is bound to, per input */
    std::vector<int64_t> shape;
    at::ScalarType type;
};

struct capture {
    std::vector<signature> in;
    int n_out;
    std::unique_ptr<jit::Code> code;
};

namespace shim
{

at::Tensor val(const struct tensor *t)
{
    if (!t->v.requires_grad() || !jit::tracer::isTracing())
        return t->v;
    at::tracer::impl::NoTracerDispatchMode unseen; /* the detaching itself is not part of the network */
    return t->v.detach();
}

} // namespace shim

/* The function under trace: stack of inputs to stack of outputs, through a scope of its own. */
static jit::Stack call_traced(struct scope *s, capture_fn fn, void *arg, int n_out, const jit::Stack &stack)
{
    std::unique_ptr<scope, void (*)(scope *)> own(scope_new(s, s->dev), scope_free);
    if (!own)
        throw std::bad_alloc();
    own->grad = false;
    std::vector<tensor *> in, out((size_t)n_out, nullptr);
    for (const at::IValue &v : stack)
        in.push_back(adopt(own.get(), v.toTensor()));
    int rc = fn(arg, own.get(), in.data(), (int)in.size(), out.data(), n_out);
    if (own->err.code || rc) {
        scope_fail(s, own->err.code ? own->err.code : rc, "%s",
                   own->err.code ? own->err.msg : "the network function failed");
        throw std::runtime_error("the network function failed");
    }
    jit::Stack result;
    for (tensor *t : out) {
        if (!t)
            throw std::invalid_argument("the network function left an output NULL");
        result.emplace_back(t->v);
    }
    return result;
}

static std::shared_ptr<jit::Graph> trace_graph(struct scope *s, capture_fn fn, void *arg, const jit::Stack &inputs,
                                               int n_out)
{
    c10::NoGradGuard off;
    auto traced = jit::tracer::trace(
        inputs, [&](jit::Stack stack) { return call_traced(s, fn, arg, n_out, stack); },
        [](const at::Tensor &) { return std::string(); }, true, false, nullptr, {});
    return traced.first->graph;
}

/*
 * libtorch 1.13 runs hardtanh on the raw memory of a blocked tensor, sized as if it had no padding: with channels that do not fill
 * the last block of 16 the result is wrong. There, clip with operations that leave the blocked layout.
 */
static void avoid_padded_hardtanh(jit::Graph &g)
{
    const int64_t largest_block = 16;
    for (jit::Node *n : g.nodes()) {
        if (n->kind() != at::Symbol::fromQualString("aten::hardtanh"))
            continue;
        auto type = n->output()->type()->cast<c10::TensorType>();
        auto sizes = type ? type->sizes().concrete_sizes() : c10::VaryingShape<int64_t>().concrete_sizes();
        if (sizes && sizes->size() == 4 && (*sizes)[1] % largest_block == 0)
            continue;
        jit::WithInsertPoint here(n);
        jit::Value *low = g.insert(at::Symbol::fromQualString("aten::clamp_min"), {n->input(0), n->input(1)});
        jit::Value *both = g.insert(at::Symbol::fromQualString("aten::clamp_max"), {low, n->input(2)});
        n->output()->replaceAllUsesWith(both);
    }
}

static void optimise(std::shared_ptr<jit::Graph> &g, bool cpu)
{
    if (cpu)
        avoid_padded_hardtanh(*g);
    jit::graph_rewrite_helper::replaceConvolutionWithAtenConv(g);
    jit::ConstantPropagation(g);
    jit::OptimizeFrozenGraph(g, true);
    if (cpu)
        jit::ConvertFrozenOpsToMKLDNN(g);
    else
        jit::FuseFrozenConvAddRelu(g);
    jit::EliminateDeadCode(g);
}

struct capture *capture_new(struct scope *s, capture_fn fn, void *arg, struct tensor *const *example, int n_in,
                            int n_out, struct err *e)
{
    static std::mutex one_at_a_time; /* the tracer warns and registers through globals */
    std::unique_ptr<capture> c;
    guard(s, "capture", {}, [&] {
        std::lock_guard<std::mutex> hold(one_at_a_time);
        c = std::make_unique<capture>();
        c->n_out = n_out;
        jit::Stack inputs;
        for (int i = 0; i < n_in; i++) {
            if (!example[i])
                throw std::invalid_argument("example input " + std::to_string(i) + " is NULL");
            inputs.emplace_back(example[i]->v.detach());
            c->in.push_back({example[i]->v.sizes().vec(), example[i]->v.scalar_type()});
        }
        auto graph = trace_graph(s, fn, arg, inputs, n_out);
        optimise(graph, device(s).is_cpu());
        c->code = std::make_unique<jit::Code>(graph, "capture");
    });
    return scope_status(s, e) ? nullptr : c.release();
}

int capture_run(struct capture *c, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    for (int i = 0; i < n_out; i++)
        out[i] = nullptr;
    for (int i = 0; i < n_in; i++)
        if (!ready(s, "capture_run", {in[i]}))
            return scope_status(s, nullptr);
    return guard(s, "capture_run", {}, [&] {
        if ((size_t)n_in != c->in.size() || n_out != c->n_out)
            throw std::invalid_argument("captured with " + std::to_string(c->in.size()) + " inputs and " +
                                        std::to_string(c->n_out) + " outputs");
        c10::NoGradGuard off;
        jit::Stack stack;
        for (int i = 0; i < n_in; i++) {
            const signature &want = c->in[(size_t)i];
            if (!in[i]->v.sizes().equals(want.shape) || in[i]->v.scalar_type() != want.type)
                throw std::invalid_argument("input " + std::to_string(i) +
                                            " differs in shape or type from the capture");
            stack.emplace_back(in[i]->v.detach());
        }
        jit::InterpreterState(*c->code).run(stack);
        for (int i = 0; i < n_out; i++)
            out[i] = adopt(s, stack[(size_t)i].toTensor());
    });
}

void capture_free(struct capture *c)
{
    delete c;
}
