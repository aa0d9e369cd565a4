/* Paths of this machine do not belong into what clients read. */
#ifndef SERVER_REDACT_H
#define SERVER_REDACT_H

#include "core/base/err.h"

/* Replaces every occurrence of `path` in the message by `name`. */
void redact_path(struct err *e, const char *path, const char *name);

#endif
