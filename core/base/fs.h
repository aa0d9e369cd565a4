/* Files: whole-file reads with a bound, atomic durable writes, directory trees. Paths are UTF-8 byte strings. */
#ifndef CORE_BASE_FS_H
#define CORE_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"

#define FS_PATH_MAX 4096

/* out[FS_PATH_MAX] = dir "/" name; ERR_LIMIT when it does not fit. */
int fs_join(char *out, const char *dir, const char *name, struct err *e);
/* Appends the file to `out`; ERR_LIMIT when it is larger than max_bytes. */
int fs_read(const char *path, size_t max_bytes, struct buf *out, struct err *e);
/* Writes a temporary file beside `path`, fsyncs, renames, fsyncs the directory. ERR_FULL on a full disk; the old file
 * stays. A device or a pipe is written to instead. */
int fs_write_atomic(const char *path, const void *data, size_t len, struct err *e);
/* Removes the temporary files that processes killed in fs_write_atomic(dir/name) left. Nobody may be writing it now. */
void fs_drop_leftovers(const char *dir, const char *name);
/* Makes or replaces the file, neither atomic nor durable: for working files. */
int fs_write(const char *path, const void *data, size_t len, struct err *e);
int fs_mkdirs(const char *path, struct err *e); /* like mkdir -p, mode 0777 & ~umask */
/* Removes a file or a whole tree, never following symbolic links; a missing path is success. */
int fs_remove_tree(const char *path, struct err *e);
int fs_exists(const char *path);         /* 1, 0 */
int fs_is_dir(const char *path);         /* 1, 0 */
int64_t fs_size(const char *path);       /* bytes, or -1 */
int64_t fs_free_bytes(const char *path); /* available to us on that file system, or -1 */

/* Sorted names of a directory's entries without "." and ".."; free with fs_list_free. */
struct fs_list {
    char **names;
    size_t n;
};
int fs_list(const char *path, struct fs_list *out, struct err *e);
void fs_list_free(struct fs_list *l);
/* Natural order: digit runs compare as numbers, so "2.png" < "10.png". strcmp-like. */
int fs_natural_cmp(const char *a, const char *b);
/* Length of the base name without its last extension; *stem points into path. */
size_t fs_stem(const char *path, const char **stem);

#endif
