/*
 * DIS optical flow from OpenCV's video module, behind the flow_backend table. The only file that includes OpenCV;
 * nothing it throws leaves it. OpenCV's own threads are off: callers run several lanes at once instead, which scales
 * better than threads within one.
 */
#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>

#include <opencv2/imgproc.hpp>
#include <opencv2/video/tracking.hpp>

#include "core/flow/backend.h"

namespace
{

struct lane {
    cv::Ptr<cv::DISOpticalFlow> dis;
    cv::Mat grey_a, grey_b, flow;
};

/* One guard for every entry point: OpenCV's errors and C++'s become ours. */
template <class F> int guarded(struct err *e, const char *what, F body) noexcept
{
    try {
        body();
        return 0;
    } catch (const std::bad_alloc &) {
        return err_set(e, ERR_NOMEM, "%s", what);
    } catch (const cv::Exception &x) {
        return err_set(e, x.code == cv::Error::StsNoMem ? ERR_NOMEM : ERR_COMPUTE, "%s: %s", what, x.err.c_str());
    } catch (const std::exception &x) {
        return err_set(e, ERR_COMPUTE, "%s: %s", what, x.what());
    } catch (...) {
        return err_set(e, ERR_COMPUTE, "%s: unknown exception", what);
    }
}

/* What the presets set; the rest is OpenCV's: patches of 8 px, search from coarse to fine, then variational refinement. */
struct tuning {
    const char *preset;
    int finest_scale; /* 1: half the size */
    int patch_stride, descent_steps, refinement_steps;
};

const struct tuning tunings[] = {
    {"brisk", 1, 3, 16, 3},
    {"medium", 1, 3, 25, 5},
    {"fast", 2, 4, 16, 5},
    {"fine", 0, 4, 12, 5},
};

cv::Ptr<cv::DISOpticalFlow> make(const char *preset, int halvings)
{
    cv::Ptr<cv::DISOpticalFlow> d = cv::DISOpticalFlow::create(cv::DISOpticalFlow::PRESET_MEDIUM);
    for (const struct tuning &t : tunings) {
        if (std::strcmp(preset, t.preset) != 0)
            continue;
        d->setFinestScale(std::max(0, t.finest_scale - halvings));
        d->setPatchStride(t.patch_stride);
        d->setGradientDescentIterations(t.descent_steps);
        d->setVariationalRefinementIterations(t.refinement_steps);
    }
    return d;
}

/* The image as grey pixels: a view of the caller's when it is grey already. */
const cv::Mat grey(const struct flow_image *im, cv::Mat &store)
{
    void *data = const_cast<uint8_t *>(im->data);
    const cv::Mat view(im->height_px, im->width_px, im->channels == 3 ? CV_8UC3 : CV_8UC1, data,
                       static_cast<size_t>(im->stride_bytes));
    if (im->channels == 1)
        return view;
    cv::cvtColor(view, store, cv::COLOR_RGB2GRAY);
    return store;
}

int dis_open(const char *preset, int halvings, void **out, struct err *e)
{
    static std::once_flag once;
    return guarded(e, "opening DIS flow", [&] {
        std::call_once(once, [] { cv::setNumThreads(1); });
        auto *l = new lane;
        try {
            l->dis = make(preset, halvings);
        } catch (...) {
            delete l;
            throw;
        }
        *out = l;
    });
}

void dis_close(void *p)
{
    delete static_cast<lane *>(p);
}

int dis_compute(void *p, const struct flow_image *a, const struct flow_image *b, struct flow_field *out, struct err *e)
{
    auto *l = static_cast<lane *>(p);
    return guarded(e, "DIS flow", [&] {
        const cv::Mat ga = grey(a, l->grey_a), gb = grey(b, l->grey_b);
        l->flow.release(); /* an old field would be taken as the initial guess */
        l->dis->calc(ga, gb, l->flow);
        for (int y = 0; y < out->height_px; y++) {
            const auto *row = l->flow.ptr<float>(y);
            const size_t o = static_cast<size_t>(y) * static_cast<size_t>(out->width_px);
            for (int x = 0; x < out->width_px; x++) {
                out->dx[o + static_cast<size_t>(x)] = row[2 * x];
                out->dy[o + static_cast<size_t>(x)] = row[2 * x + 1];
            }
        }
    });
}

const char *const dis_presets[] = {"brisk", "medium", "fast", "fine", nullptr};

} // namespace

const struct flow_backend flow_dis = {"dis", dis_presets, dis_open, dis_close, dis_compute};
