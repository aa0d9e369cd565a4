/* Files. Durable means: data fsynced before the rename, the directory fsynced after it. */
#include "core/base/fs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int fs_join(char *out, const char *dir, const char *name, struct err *e)
{
    int n = snprintf(out, FS_PATH_MAX, "%s/%s", dir, name);
    return n >= 0 && n < FS_PATH_MAX ? 0 : err_set(e, ERR_LIMIT, "path too long: %.100s/%.100s", dir, name);
}

int fs_read(const char *path, size_t max_bytes, struct buf *out, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    if (fd < 0)
        return err_errno(e, "%s", path);
    size_t total = 0;
    for (;;) {
        void *p = buf_reserve(out, 1 << 16);
        if (!p) {
            rc = err_set(e, ERR_NOMEM, "%s: no memory to read it", path);
            break;
        }
        ssize_t n = read(fd, p, 1 << 16);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = err_errno(e, "%s", path);
        if (n <= 0)
            break;
        total += (size_t)n;
        if (total > max_bytes) {
            rc = err_set(e, ERR_LIMIT, "%s: larger than %zu bytes", path, max_bytes);
            break;
        }
        out->len += (size_t)n;
        out->data[out->len] = 0;
    }
    close(fd);
    return rc;
}

static int write_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int sync_parent(const char *path)
{
    char dir[FS_PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

int fs_write(const char *path, const void *data, size_t len, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(e, "%s", path);
    int rc = write_all(fd, data, len) ? err_errno(e, "writing %s", path) : 0;
    if (close(fd) && rc == 0)
        rc = err_errno(e, "writing %s", path);
    return rc;
}

/* A device or a pipe takes bytes and must not be replaced by a file. */
static int is_special(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

int fs_write_atomic(const char *path, const void *data, size_t len, struct err *e)
{
    char tmp[FS_PATH_MAX];
    if (is_special(path))
        return fs_write(path, data, len, e);
    if (snprintf(tmp, sizeof(tmp), "%s.tmp.XXXXXX", path) >= (int)sizeof(tmp))
        return err_set(e, ERR_LIMIT, "path too long: %.200s", path);
    int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "%s", path);
    int bad = write_all(fd, data, len) || fchmod(fd, 0644) || fsync(fd);
    int saved = errno;
    if (close(fd) && !bad) {
        bad = 1;
        saved = errno;
    }
    errno = saved;
    if (bad || rename(tmp, path)) {
        int rc = err_errno(e, "writing %s", path);
        unlink(tmp);
        return rc;
    }
    return sync_parent(path) ? err_errno(e, "writing %s", path) : 0;
}

void fs_drop_leftovers(const char *dir, const char *name)
{
    struct fs_list l;
    char path[FS_PATH_MAX];
    size_t len = strlen(name), mark = strlen(".tmp.");
    if (fs_list(dir, &l, NULL) < 0)
        return;
    for (size_t i = 0; i < l.n; i++) {
        const char *at = l.names[i];
        if (strncmp(at, name, len) == 0 && strncmp(at + len, ".tmp.", mark) == 0 && strlen(at + len + mark) == 6 &&
            fs_join(path, dir, at, NULL) == 0)
            unlink(path);
    }
    fs_list_free(&l);
}

int fs_mkdirs(const char *path, struct err *e)
{
    char p[FS_PATH_MAX];
    if (snprintf(p, sizeof(p), "%s", path) >= (int)sizeof(p))
        return err_set(e, ERR_LIMIT, "path too long: %.200s", path);
    for (char *s = p + 1;; s++) {
        if (*s != '/' && *s != 0)
            continue;
        char c = *s;
        *s = 0;
        if (mkdir(p, 0777) && errno != EEXIST)
            return err_errno(e, "creating %s", p);
        *s = c;
        if (!c)
            break;
    }
    return fs_is_dir(path) ? 0 : err_set(e, ERR_EXISTS, "creating %s: a file is in the way", path);
}

static int remove_at(int dirfd, const char *name);

static int empty_dir(int fd)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return -1;
    }
    int rc = 0;
    for (struct dirent *de; rc == 0 && (de = readdir(d));)
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
            rc = remove_at(fd, de->d_name);
    closedir(d);
    return rc;
}

static int remove_at(int dirfd, const char *name)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    if (empty_dir(fd))
        return -1;
    return unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -1;
}

int fs_remove_tree(const char *path, struct err *e)
{
    return remove_at(AT_FDCWD, path) ? err_errno(e, "removing %s", path) : 0;
}

int fs_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

int fs_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int64_t fs_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

int64_t fs_free_bytes(const char *path)
{
    struct statvfs v;
    return statvfs(path, &v) == 0 ? (int64_t)v.f_bavail * (int64_t)v.f_frsize : -1;
}

static const char *skip_zeros(const char *s)
{
    while (*s == '0')
        s++;
    return s;
}

int fs_natural_cmp(const char *a, const char *b)
{
    const char *a0 = a, *b0 = b;
    while (*a && *b) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            a = skip_zeros(a);
            b = skip_zeros(b);
            size_t na = strspn(a, "0123456789"), nb = strspn(b, "0123456789");
            if (na != nb)
                return na < nb ? -1 : 1;
            int c = memcmp(a, b, na);
            if (c)
                return c;
            a += na;
            b += nb;
        } else if (*a != *b) {
            return (unsigned char)*a - (unsigned char)*b;
        } else {
            a++;
            b++;
        }
    }
    int c = (unsigned char)*a - (unsigned char)*b;
    return c ? c : strcmp(a0, b0);
}

static int name_cmp(const void *a, const void *b)
{
    return fs_natural_cmp(*(char *const *)a, *(char *const *)b);
}

static int list_add(struct fs_list *l, size_t *cap, const char *name)
{
    if (l->n == *cap) {
        size_t want = *cap ? *cap * 2 : 64;
        char **p = realloc(l->names, want * sizeof(*p));
        if (!p)
            return -1;
        l->names = p;
        *cap = want;
    }
    char *copy = strdup(name);
    if (!copy)
        return -1;
    l->names[l->n++] = copy;
    return 0;
}

int fs_list(const char *path, struct fs_list *out, struct err *e)
{
    *out = (struct fs_list){0};
    DIR *d = opendir(path);
    if (!d)
        return err_errno(e, "%s", path);
    size_t cap = 0;
    int bad = 0;
    for (struct dirent *de; !bad && (de = readdir(d));)
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
            bad = list_add(out, &cap, de->d_name);
    closedir(d);
    if (bad) {
        fs_list_free(out);
        return err_set(e, ERR_NOMEM, "%s: no memory to list it", path);
    }
    if (out->n)
        qsort(out->names, out->n, sizeof(*out->names), name_cmp);
    return 0;
}

void fs_list_free(struct fs_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->names[i]);
    free(l->names);
    *l = (struct fs_list){0};
}

size_t fs_stem(const char *path, const char **stem)
{
    const char *slash = strrchr(path, '/');
    *stem = slash ? slash + 1 : path;
    const char *dot = strrchr(*stem, '.');
    return dot && dot != *stem ? (size_t)(dot - *stem) : strlen(*stem);
}
