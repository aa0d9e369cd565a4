/*
 * Weights from outside: read by a process of its own with bounded memory and time and no new privileges (`salient model
 * import --untrusted`), so that a file that crashes a reader, or asks for too much, costs its sender the answer and
 * nobody else anything.
 */
#ifndef SERVER_IMPORTER_H
#define SERVER_IMPORTER_H

#include "core/base/err.h"

/* model_import(path, arch, out) in such a process. Thread-safe. ERR_CORRUPT with the reason: the file is no good;
 * ERR_FULL; others are failures of ours. */
int importer_run(const char *path, const char *arch, const char *out, struct err *e);
/* The process' side: takes the limits upon itself. */
void importer_confine(void);

#endif
