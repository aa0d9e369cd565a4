/* Taking paths out of error messages. */
#include "server/redact.h"

#include <stdio.h>
#include <string.h>

void redact_path(struct err *e, const char *path, const char *name)
{
    size_t len = strlen(path), new_len = strlen(name);
    if (len == 0 || new_len > len)
        return;
    for (char *hit = strstr(e->msg, path); hit; hit = strstr(hit + new_len, path)) {
        memcpy(hit, name, new_len);
        memmove(hit + new_len, hit + len, strlen(hit + len) + 1);
    }
}
