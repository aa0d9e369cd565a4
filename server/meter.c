/* Progress on standard error. */
#include "server/meter.h"

#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"

#define BAR_WIDTH 30
#define BAR_EVERY_MS 100
#define LINE_EVERY_MS 5000

void meter_start(struct meter *m)
{
    *m = (struct meter){.terminal = isatty(STDERR_FILENO), .since_ms = clock_mono_ms()};
}

void meter_show(void *meter, int64_t done, int64_t total)
{
    struct meter *m = meter;
    int64_t now = clock_mono_ms();
    bool last = total > 0 && done >= total;
    if (!last && now - m->shown_ms < (m->terminal ? BAR_EVERY_MS : LINE_EVERY_MS))
        return;
    m->shown_ms = now;
    double rate = now > m->since_ms ? (double)done * 1000 / (double)(now - m->since_ms) : 0;
    if (!m->terminal) {
        fprintf(stderr, "%lld/%lld frames, %.1f frames/s\n", (long long)done, (long long)total, rate);
        return;
    }
    int full = total > 0 ? (int)(BAR_WIDTH * (done < total ? done : total) / total) : 0;
    fprintf(stderr, "\r[%-*.*s] %lld/%lld  %.1f frames/s ", BAR_WIDTH, full,
            "==============================", (long long)done, (long long)total, rate);
    if (last)
        fputc('\n', stderr);
}
