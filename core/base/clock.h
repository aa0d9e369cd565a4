/* Time. Wall-clock times are milliseconds since the epoch, UTC; intervals use the monotonic clock. */
#ifndef CORE_BASE_CLOCK_H
#define CORE_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_RFC3339_SIZE 25 /* "2026-11-22T17:41:47.123Z" and NUL */

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
void clock_sleep_ms(int64_t ms); /* resumes after EINTR */
/* RFC 3339, UTC, milliseconds. */
char *clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_SIZE]);

#endif
