/* What every unit test includes: cmocka with the headers it needs, and access to ../shared. */
#ifndef TESTS_UNIT_CHECK_H
#define TESTS_UNIT_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* Path of the shared data folder ($SALIENT_SHARED or ../shared), or NULL after saying loudly that the caller skips. */
static inline const char *shared_dir(void)
{
    const char *d = getenv("SALIENT_SHARED");
    struct stat st;
    if (!d || !*d)
        d = "../shared";
    if (stat(d, &st) == 0)
        return d;
    fprintf(stderr, "SKIPPED: no shared data at %s\n", d);
    return NULL;
}

#endif
