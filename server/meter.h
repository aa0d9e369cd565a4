/* How far a command is: a bar on a terminal, a line now and then elsewhere. */
#ifndef SERVER_METER_H
#define SERVER_METER_H

#include <stdbool.h>
#include <stdint.h>

struct meter {
    bool terminal;
    int64_t since_ms, shown_ms;
};

void meter_start(struct meter *m);
/* A progress callback. total: 0 while it is not known. */
void meter_show(void *meter, int64_t done, int64_t total);

#endif
