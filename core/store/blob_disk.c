/*
 * blob_disk: a key is a path below the root. A blob is written to root/.tmp (keys cannot begin with a dot), fsynced,
 * renamed over its key, and its directory is fsynced: after a crash it is whole or absent.
 *
 * Empty directories go with their last blob; a writer that loses its directory to that between mkdir and rename makes
 * it again.
 */
#include "core/store/blob_ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/hash.h"

#define TEMP_STALE_S (24 * 3600)
#define CHUNK (256 * 1024)

struct disk {
    struct blobs base;
    char root[FS_PATH_MAX / 2], temp[FS_PATH_MAX / 2 + 8];
    int64_t min_free;
    bool no_fsync;
};

struct disk_writer {
    struct blob_writer base;
    int fd;
    char key[BLOB_KEY_MAX + 1], path[FS_PATH_MAX];
};

struct disk_reader {
    struct blob_reader base;
    int fd;
    int64_t left;
};

static struct disk *self(struct blobs *b)
{
    return (struct disk *)b;
}

static int disk_path(struct blobs *b, const char *key, char out[FS_PATH_MAX], struct err *e)
{
    return fs_join(out, self(b)->root, key, e);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* Temporary files of processes that died. */
static void remove_stale_temps(const struct disk *d)
{
    struct fs_list l;
    if (fs_list(d->temp, &l, NULL))
        return;
    for (size_t i = 0; i < l.n; i++) {
        char path[FS_PATH_MAX];
        struct stat st;
        if (fs_join(path, d->temp, l.names[i], NULL) == 0 && stat(path, &st) == 0 &&
            clock_wall_ms() / 1000 - st.st_mtime > TEMP_STALE_S)
            fs_remove_tree(path, NULL);
    }
    fs_list_free(&l);
}

static int disk_open(const char *url, const struct blobs_opts *opts, struct blobs **out, struct err *e)
{
    struct disk *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, ERR_NOMEM, "out of memory for the blobs");
    d->base.ops = &blob_disk;
    d->min_free = opts->min_free_bytes > 0 ? opts->min_free_bytes : INT64_C(64) << 20;
    d->no_fsync = opts->no_fsync;
    int rc = 0;
    if (!*url || strlen(url) >= sizeof(d->root))
        rc = err_set(e, ERR_INVALID, "blob directory: empty or too long");
    if (!rc) {
        memcpy(d->root, url, strlen(url) + 1);
        snprintf(d->temp, sizeof(d->temp), "%s/.tmp", url);
        rc = fs_mkdirs(d->temp, e);
    }
    if (rc) {
        free(d);
        return rc;
    }
    remove_stale_temps(d);
    *out = &d->base;
    return 0;
}

static void disk_close(struct blobs *b)
{
    free(b);
}

static int64_t disk_free_bytes(struct blobs *b)
{
    int64_t n = fs_free_bytes(self(b)->root);
    return n < 0 ? n : n > self(b)->min_free ? n - self(b)->min_free : 0;
}

static int check_space(struct blobs *b, int64_t bytes, struct err *e)
{
    int64_t n = disk_free_bytes(b);
    return n >= 0 && n < bytes + 1 ? err_set(e, ERR_FULL, "%s: storage is full", self(b)->root) : 0;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static int temp_file(struct disk *d, char out[FS_PATH_MAX], struct err *e)
{
    char id[ID_SIZE];
    id_new(id);
    snprintf(out, FS_PATH_MAX, "%s/%s", d->temp, id);
    int fd = open(out, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return fd < 0 ? err_errno(e, "%s", out) : fd;
}

static int disk_temp(struct blobs *b, char out[FS_PATH_MAX], struct err *e)
{
    int fd = temp_file(self(b), out, e);
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

static int sync_path(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "%s", path);
    int rc = fsync(fd) ? err_errno(e, "%s: fsync", path) : 0;
    close(fd);
    return rc;
}

/* Makes the directory of `path` (below the root), and makes the new entries durable. */
static int make_parent(struct disk *d, const char *path, struct err *e)
{
    char dir[FS_PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", path);
    *strrchr(dir, '/') = '\0';
    if (mkdir(dir, 0777) == 0) {
        char *slash = strrchr(dir, '/');
        *slash = '\0';
        return d->no_fsync ? 0 : sync_path(dir, e);
    }
    if (errno == EEXIST)
        return 0;
    if (errno != ENOENT || strlen(dir) <= strlen(d->root))
        return err_errno(e, "%s", dir);
    int rc = make_parent(d, dir, e);
    return rc ? rc : make_parent(d, path, e);
}

/* Moves a finished, synced file to its key. */
static int install(struct disk *d, const char *from, const char *key, struct err *e)
{
    char path[FS_PATH_MAX];
    int rc = disk_path(&d->base, key, path, e);
    for (int tries = 0; !rc; tries++) {
        rc = make_parent(d, path, e);
        if (rc == ERR_NOTFOUND && tries < 10) { /* somebody removes the directory as we make it */
            rc = 0;
            continue;
        }
        if (rc || rename(from, path) == 0)
            break;
        if (errno != ENOENT || tries >= 10)
            rc = err_errno(e, "%s", path);
    }
    if (rc || d->no_fsync)
        return rc;
    *strrchr(path, '/') = '\0';
    rc = sync_path(path, e);
    return rc == ERR_NOTFOUND ? 0 : rc; /* the blob has been removed again */
}

static int disk_writer_open(struct blobs *b, const char *key, struct blob_writer **out, struct err *e)
{
    int rc = check_space(b, 0, e);
    if (rc)
        return rc;
    struct disk_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, ERR_NOMEM, "out of memory for %s", key);
    w->base.b = b;
    memcpy(w->key, key, strlen(key) + 1);
    w->fd = temp_file(self(b), w->path, e);
    if (w->fd < 0) {
        rc = w->fd;
        free(w);
        return rc;
    }
    *out = &w->base;
    return 0;
}

static int disk_write(struct blob_writer *bw, const void *data, size_t len, struct err *e)
{
    struct disk_writer *w = (struct disk_writer *)bw;
    for (const char *p = data; len > 0;) {
        ssize_t n = write(w->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EFBIG)
            return err_set(e, ERR_FULL, "%s: larger than this process may write", w->key);
        if (n < 0)
            return err_errno(e, "%s", w->key);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static void disk_abort(struct blob_writer *bw)
{
    struct disk_writer *w = (struct disk_writer *)bw;
    close(w->fd);
    unlink(w->path);
    free(w);
}

static int disk_commit(struct blob_writer *bw, struct err *e)
{
    struct disk_writer *w = (struct disk_writer *)bw;
    struct disk *d = self(bw->b);
    int rc = check_space(bw->b, 0, e);
    if (!rc && !d->no_fsync && fsync(w->fd))
        rc = err_errno(e, "%s: fsync", w->key);
    if (!rc)
        rc = install(d, w->path, w->key, e);
    if (rc) {
        disk_abort(bw);
        return rc;
    }
    close(w->fd);
    free(w);
    return 0;
}

static int put_copy(struct blobs *b, const char *key, int from, struct err *e)
{
    struct blob_writer *w = NULL;
    int rc = disk_writer_open(b, key, &w, e);
    if (!w)
        return rc;
    char *chunk = malloc(CHUNK);
    ssize_t n = chunk ? 1 : 0;
    if (!chunk)
        rc = err_set(e, ERR_NOMEM, "out of memory for %s", key);
    while (!rc && n > 0) {
        n = read(from, chunk, CHUNK);
        if (n > 0)
            rc = disk_write(w, chunk, (size_t)n, e);
        else if (n < 0 && errno == EINTR)
            n = 1;
        else if (n < 0)
            rc = err_errno(e, "%s", key);
    }
    free(chunk);
    if (!rc)
        return disk_commit(w, e);
    disk_abort(w);
    return rc;
}

static int disk_put_file(struct blobs *b, const char *key, const char *path, bool move, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return err_errno(e, "%s", path);
    int rc = fstat(fd, &st) ? err_errno(e, "%s", path) : 0;
    if (!rc && !S_ISREG(st.st_mode))
        rc = err_set(e, ERR_INVALID, "%s: not a file", path);
    struct stat root;
    bool same_disk = !rc && stat(self(b)->root, &root) == 0 && root.st_dev == st.st_dev;
    if (!rc && move && same_disk) {
        futimens(fd, NULL); /* a blob is as old as its key */
        if (!self(b)->no_fsync && fsync(fd))
            rc = err_errno(e, "%s: fsync", path);
        if (!rc)
            rc = install(self(b), path, key, e);
    } else if (!rc) {
        rc = check_space(b, st.st_size, e);
        if (!rc)
            rc = put_copy(b, key, fd, e);
        if (!rc && move)
            unlink(path);
    }
    close(fd);
    return rc;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static void fill_stat(const struct stat *st, struct blob_stat *out)
{
    out->bytes = st->st_size;
    out->modified_ms = st->st_mtim.tv_sec * INT64_C(1000) + st->st_mtim.tv_nsec / 1000000;
    /* A blob is replaced by rename, never written in place, so a new content has a new inode or time. */
    snprintf(out->etag, sizeof(out->etag), "%llx-%llx-%llx", (unsigned long long)st->st_ino,
             (unsigned long long)st->st_mtim.tv_sec * 1000000000ull + (unsigned long long)st->st_mtim.tv_nsec,
             (unsigned long long)st->st_size);
}

/* A path that goes through a file ("a/b" where "a" is a blob) is simply no blob. */
static int open_error(const char *key, struct err *e)
{
    return errno == ENOTDIR ? err_set(e, ERR_NOTFOUND, "%s: no such blob", key) : err_errno(e, "%s", key);
}

static int disk_stat(struct blobs *b, const char *key, struct blob_stat *out, struct err *e)
{
    char path[FS_PATH_MAX];
    struct stat st;
    int rc = disk_path(b, key, path, e);
    if (rc)
        return rc;
    if (stat(path, &st))
        return open_error(key, e);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_NOTFOUND, "%s: no such blob", key);
    fill_stat(&st, out);
    return 0;
}

static int reader_start(struct disk_reader *r, const char *key, int64_t offset, int64_t len, struct err *e)
{
    struct stat st;
    if (fstat(r->fd, &st))
        return err_errno(e, "%s", key);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_NOTFOUND, "%s: no such blob", key);
    if (offset > st.st_size)
        return err_set(e, ERR_LIMIT, "%s: offset %lld is beyond its %lld bytes", key, (long long)offset,
                       (long long)st.st_size);
    if (lseek(r->fd, offset, SEEK_SET) < 0)
        return err_errno(e, "%s", key);
    r->left = st.st_size - offset;
    if (len >= 0 && len < r->left)
        r->left = len;
    return 0;
}

static void disk_reader_close(struct blob_reader *br)
{
    struct disk_reader *r = (struct disk_reader *)br;
    if (r->fd >= 0)
        close(r->fd);
    free(r);
}

static int disk_reader_open(struct blobs *b, const char *key, int64_t offset, int64_t len, struct blob_reader **out,
                            struct err *e)
{
    char path[FS_PATH_MAX];
    int rc = disk_path(b, key, path, e);
    if (rc)
        return rc;
    struct disk_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, ERR_NOMEM, "out of memory for %s", key);
    r->base.b = b;
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    rc = r->fd < 0 ? open_error(key, e) : reader_start(r, key, offset, len, e);
    if (rc)
        disk_reader_close(&r->base);
    else
        *out = &r->base;
    return rc;
}

static int64_t disk_read(struct blob_reader *br, void *out, size_t cap, struct err *e)
{
    struct disk_reader *r = (struct disk_reader *)br;
    if ((int64_t)cap > r->left)
        cap = (size_t)r->left;
    if (cap == 0)
        return 0;
    ssize_t n;
    do
        n = read(r->fd, out, cap);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_errno(e, "reading a blob");
    if (n == 0)
        return err_set(e, ERR_CORRUPT, "a blob ended early");
    r->left -= n;
    return n;
}

static int disk_local_path(struct blobs *b, const char *key, char out[FS_PATH_MAX], struct err *e)
{
    int rc = disk_path(b, key, out, e);
    return rc ? rc : 1;
}

/* ---- removing, listing ------------------------------------------------------------------------------------------ */

static int disk_delete(struct blobs *b, const char *key, struct err *e)
{
    char path[FS_PATH_MAX];
    int rc = disk_path(b, key, path, e);
    if (rc)
        return rc;
    if (unlink(path) && errno != ENOENT && errno != ENOTDIR && errno != EISDIR)
        return err_errno(e, "%s", key);
    size_t root = strlen(self(b)->root);
    for (char *slash; (slash = strrchr(path, '/')) && (size_t)(slash - path) > root;) {
        *slash = '\0';
        if (rmdir(path))
            break;
    }
    return 0;
}

struct entry {
    char *name; /* directories end with '/', which makes plain byte order the order of the keys */
};

static int entry_cmp(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void entries_free(struct entry *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i].name);
    free(list);
}

static int entry_add(struct entry **list, size_t *n, int dirfd, const char *name)
{
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return 0; /* removed meanwhile, or not ours */
    if (*n % 64 == 0) {
        struct entry *p = realloc(*list, (*n + 64) * sizeof(*p));
        if (!p)
            return -1;
        *list = p;
    }
    char *copy = NULL;
    if (asprintf(&copy, "%s%s", name, S_ISDIR(st.st_mode) ? "/" : "") < 0)
        return -1;
    (*list)[(*n)++].name = copy;
    return 0;
}

static int read_entries(const char *dir, struct entry **list, size_t *n, struct err *e)
{
    *list = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_errno(e, "%s", dir);
    int rc = 0;
    for (struct dirent *x; !rc && (x = readdir(d));)
        if (x->d_name[0] != '.')
            rc = entry_add(list, n, dirfd(d), x->d_name);
    closedir(d);
    if (rc) {
        entries_free(*list, *n);
        *list = NULL;
        *n = 0;
        return err_set(e, ERR_NOMEM, "out of memory for a list of blobs");
    }
    if (*n)
        qsort(*list, *n, sizeof(**list), entry_cmp);
    return 0;
}

static int disk_list(struct blobs *b, const char *prefix, blob_list_fn *fn, void *arg, struct err *e)
{
    char dir[FS_PATH_MAX];
    struct entry *list;
    size_t n;
    int rc = disk_path(b, prefix, dir, e);
    if (!rc)
        rc = read_entries(dir, &list, &n, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < n && !rc; i++) {
        char key[FS_PATH_MAX];
        struct blob_stat st;
        if ((size_t)snprintf(key, sizeof(key), "%s%s", prefix, list[i].name) > BLOB_KEY_MAX)
            continue; /* not ours */
        if (key[strlen(key) - 1] == '/')
            rc = disk_list(b, key, fn, arg, e);
        else if (disk_stat(b, key, &st, NULL) == 0)
            rc = fn(arg, key, &st);
    }
    entries_free(list, n);
    return rc;
}

const struct blob_ops blob_disk = {
    .scheme = "",
    .open = disk_open,
    .close = disk_close,
    .free_bytes = disk_free_bytes,
    .temp = disk_temp,
    .put_file = disk_put_file,
    .writer_open = disk_writer_open,
    .write = disk_write,
    .commit = disk_commit,
    .abort = disk_abort,
    .stat = disk_stat,
    .reader_open = disk_reader_open,
    .read = disk_read,
    .reader_close = disk_reader_close,
    .local_path = disk_local_path,
    .del = disk_delete,
    .list = disk_list,
};
