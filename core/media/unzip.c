/*
 * The central directory is the only truth (APPNOTE 6.3.9 sections 4.3.12 to 4.3.16); of a local header only its length
 * is used. Records are parsed from one bounded buffer, every offset is checked against the file, and entries may not
 * share bytes, so the archive cannot unpack to more than deflate's own ratio allows.
 */
#include "core/media/unzip.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

enum {
    SIG_LOCAL = 0x04034b50,
    SIG_CENTRAL = 0x02014b50,
    SIG_END = 0x06054b50,
    SIG_END64 = 0x06064b50,
    SIG_LOCATOR64 = 0x07064b50,
    SIZE_LOCAL = 30,
    SIZE_CENTRAL = 46,
    SIZE_END = 22,
    SIZE_END64 = 56,
    SIZE_LOCATOR64 = 20,
    COMMENT_MAX = 65535,
    STORED = 0,
    DEFLATE = 8,
};

static const struct unzip_limits defaults = {200000, (int64_t)256 << 20, (int64_t)16 << 30};

struct unzip {
    int fd;
    int64_t file_bytes, directory; /* where the directory starts */
    char *label;                   /* its name in messages */
    struct unzip_limits limits;
    struct unzip_entry *v;
    size_t n;
};

static uint32_t u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

static int read_at(const struct unzip *z, int64_t at, void *out, size_t len, struct err *e)
{
    if (at < 0 || at > z->file_bytes || (uint64_t)len > (uint64_t)(z->file_bytes - at))
        return err_set(e, ERR_CORRUPT, "%s: damaged or truncated zip", z->label);
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(z->fd, (char *)out + done, len - done, (off_t)(at + (int64_t)done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "reading %s", z->label);
        if (n == 0)
            return err_set(e, ERR_CORRUPT, "%s: damaged or truncated zip", z->label);
        done += (size_t)n;
    }
    return 0;
}

/* ---- the directory ---------------------------------------------------------------------------------------------------- */

struct directory {
    int64_t at, bytes, entries;
};

static int directory64(const struct unzip *z, int64_t end, struct directory *d, struct err *e)
{
    uint8_t b[SIZE_END64];
    int rc = read_at(z, end - SIZE_LOCATOR64, b, SIZE_LOCATOR64, e);
    if (rc)
        return rc;
    if (u32(b) != SIG_LOCATOR64)
        return 0; /* the small record's values really are that large */
    uint64_t at = u64(b + 8);
    if (at > INT64_MAX)
        return err_set(e, ERR_CORRUPT, "%s: damaged zip directory", z->label);
    if ((rc = read_at(z, (int64_t)at, b, SIZE_END64, e)))
        return rc;
    if (u32(b) != SIG_END64 || u64(b + 32) > INT64_MAX || u64(b + 40) > INT64_MAX || u64(b + 48) > INT64_MAX)
        return err_set(e, ERR_CORRUPT, "%s: damaged zip directory", z->label);
    *d = (struct directory){.entries = (int64_t)u64(b + 32), .bytes = (int64_t)u64(b + 40), .at = (int64_t)u64(b + 48)};
    return 0;
}

/* Finds the end record: the last one whose comment reaches exactly to the end of the file. */
static int find_directory(const struct unzip *z, struct directory *d, struct err *e)
{
    int64_t tail = z->file_bytes < SIZE_END + COMMENT_MAX ? z->file_bytes : SIZE_END + COMMENT_MAX;
    uint8_t *b = malloc(tail ? (size_t)tail : 1);
    if (!b)
        return err_set(e, ERR_NOMEM, "%s: no memory to read it", z->label);
    int rc = read_at(z, z->file_bytes - tail, b, (size_t)tail, e);
    int64_t i = rc ? -1 : tail - SIZE_END;
    while (i >= 0 && !(u32(b + i) == SIG_END && i + SIZE_END + u16(b + i + 20) == tail))
        i--;
    if (i < 0) {
        free(b);
        return rc ? rc : err_set(e, ERR_CORRUPT, "%s: not a zip, or truncated", z->label);
    }
    const uint8_t *r = b + i;
    *d = (struct directory){.entries = u16(r + 10), .bytes = u32(r + 12), .at = u32(r + 16)};
    bool split = u16(r + 4) != 0 && u16(r + 4) != 0xffff;
    int64_t end = z->file_bytes - tail + i;
    if (split)
        rc = err_set(e, ERR_UNSUPPORTED, "%s: one part of a split zip", z->label);
    else if ((d->entries == 0xffff || d->bytes == 0xffffffff || d->at == 0xffffffff) && end >= SIZE_LOCATOR64)
        rc = directory64(z, end, d, e);
    free(b);
    if (rc == 0 && (d->at > end || d->bytes > end - d->at))
        rc = err_set(e, ERR_CORRUPT, "%s: damaged zip directory", z->label);
    return rc;
}

/* Relative, without a step up. Names are used as keys only, but a hostile archive is said to be one. */
static int check_name(const struct unzip *z, const char *name, size_t len, struct err *e)
{
    bool bad =
        len == 0 || name[0] == '/' || memchr(name, '\\', len) || memchr(name, 0, len) || (len > 1 && name[1] == ':');
    for (size_t i = 0; !bad && i < len;) {
        const char *slash = memchr(name + i, '/', len - i);
        size_t part = slash ? (size_t)(slash - name) - i : len - i;
        bad = part == 2 && memcmp(name + i, "..", 2) == 0;
        i += part + 1;
    }
    return bad ? err_set(e, ERR_INVALID, "%s: refused: entry '%.*s' points outside the archive", z->label,
                         (int)(len < 200 ? len : 200), name)
               : 0;
}

/* Sizes and offset that do not fit 32 bits stand in the zip64 extra field, in this order, each only if needed. */
static int apply_zip64(const uint8_t *extra, size_t len, uint64_t *size, uint64_t *packed, uint64_t *offset)
{
    uint64_t *want[] = {*size == 0xffffffff ? size : NULL, *packed == 0xffffffff ? packed : NULL,
                        *offset == 0xffffffff ? offset : NULL};
    if (!want[0] && !want[1] && !want[2])
        return 0;
    while (len >= 4) {
        size_t part = u16(extra + 2);
        if (part > len - 4)
            return -1;
        if (u16(extra) == 1) {
            const uint8_t *p = extra + 4, *end = p + part;
            for (int i = 0; i < 3; i++) {
                if (!want[i])
                    continue;
                if (end - p < 8)
                    return -1;
                *want[i] = u64(p);
                p += 8;
            }
            return 0;
        }
        extra += 4 + part;
        len -= 4 + part;
    }
    return -1;
}

static int check_kind(const struct unzip *z, const struct unzip_entry *n, const uint8_t *r, struct err *e)
{
    uint32_t mode = u32(r + 38) >> 16;
    if (u16(r + 4) >> 8 == 3 && (mode & S_IFMT) == S_IFLNK)
        return err_set(e, ERR_INVALID, "%s: refused: entry '%s' is a symbolic link", z->label, n->name);
    if (u16(r + 8) & 1)
        return err_set(e, ERR_UNSUPPORTED, "%s: entry '%s' is encrypted", z->label, n->name);
    if (n->method != STORED && n->method != DEFLATE)
        return err_set(e, ERR_UNSUPPORTED, "%s: entry '%s' uses compression method %d", z->label, n->name, n->method);
    if (n->size > z->limits.max_entry_bytes)
        return err_set(e, ERR_LIMIT, "%s: entry '%s' unpacks to %lld bytes, over the limit of %lld", z->label, n->name,
                       (long long)n->size, (long long)z->limits.max_entry_bytes);
    if (n->method == STORED && n->size != n->packed)
        return err_set(e, ERR_CORRUPT, "%s: entry '%s' has two sizes", z->label, n->name);
    return 0;
}

/* One record at r with `room` bytes left; *used is its length. Folders are skipped. */
static int add_record(struct unzip *z, const uint8_t *r, size_t room, size_t *used, struct err *e)
{
    if (room < SIZE_CENTRAL || u32(r) != SIG_CENTRAL)
        return err_set(e, ERR_CORRUPT, "%s: damaged zip directory", z->label);
    size_t name = u16(r + 28), extra = u16(r + 30);
    *used = SIZE_CENTRAL + name + extra + u16(r + 32);
    if (*used > room)
        return err_set(e, ERR_CORRUPT, "%s: damaged zip directory", z->label);
    const char *text = (const char *)r + SIZE_CENTRAL;
    int rc = check_name(z, text, name, e);
    if (rc || text[name - 1] == '/')
        return rc;
    uint64_t size = u32(r + 24), packed = u32(r + 20), offset = u32(r + 42);
    if (apply_zip64(r + SIZE_CENTRAL + name, extra, &size, &packed, &offset) || size > INT64_MAX / 4 ||
        packed > (uint64_t)z->file_bytes || offset > (uint64_t)z->file_bytes)
        return err_set(e, ERR_CORRUPT, "%s: damaged zip entry '%.*s'", z->label, (int)name, text);
    struct unzip_entry *n = &z->v[z->n];
    *n = (struct unzip_entry){.name = strndup(text, name),
                              .size = (int64_t)size,
                              .packed = (int64_t)packed,
                              .offset = (int64_t)offset,
                              .crc = u32(r + 16),
                              .method = (int)u16(r + 10)};
    if (!n->name)
        return err_set(e, ERR_NOMEM, "%s: no memory for its directory", z->label);
    z->n++;
    return check_kind(z, n, r, e);
}

static int by_offset(const void *a, const void *b)
{
    const struct unzip_entry *const *x = a, *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* Entries lie one after the other, each with at least its local header: none shares bytes with another. */
static int check_overlap(const struct unzip *z, struct err *e)
{
    const struct unzip_entry **order = malloc((z->n ? z->n : 1) * sizeof(struct unzip_entry *));
    if (!order)
        return err_set(e, ERR_NOMEM, "%s: no memory for its directory", z->label);
    for (size_t i = 0; i < z->n; i++)
        order[i] = &z->v[i];
    qsort(order, z->n, sizeof(struct unzip_entry *), by_offset);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < z->n; i++) {
        int64_t end = i + 1 < z->n ? order[i + 1]->offset : z->directory;
        if (order[i]->offset > end - SIZE_LOCAL || order[i]->packed > end - SIZE_LOCAL - order[i]->offset)
            rc = err_set(e, ERR_CORRUPT, "%s: refused: entry '%s' overlaps the next one", z->label, order[i]->name);
    }
    free(order);
    return rc;
}

static int check_total(const struct unzip *z, struct err *e)
{
    int64_t total = 0;
    for (size_t i = 0; i < z->n; i++) {
        total += z->v[i].size; /* each at most max_entry_bytes, at most max_entries of them */
        if (total > z->limits.max_bytes)
            return err_set(e, ERR_LIMIT, "%s: unpacks to more than the limit of %lld bytes", z->label,
                           (long long)z->limits.max_bytes);
    }
    return 0;
}

static int load_directory(struct unzip *z, struct err *e)
{
    struct directory d = {0};
    int rc = find_directory(z, &d, e);
    if (rc)
        return rc;
    if (d.entries > z->limits.max_entries)
        return err_set(e, ERR_LIMIT, "%s: %lld entries, over the limit of %lld", z->label, (long long)d.entries,
                       (long long)z->limits.max_entries);
    if (d.entries > d.bytes / SIZE_CENTRAL)
        return err_set(e, ERR_CORRUPT, "%s: damaged zip directory", z->label);
    z->directory = d.at;
    uint8_t *b = malloc(d.bytes ? (size_t)d.bytes : 1);
    z->v = calloc(d.entries ? (size_t)d.entries : 1, sizeof(*z->v));
    if (!b || !z->v)
        rc = err_set(e, ERR_NOMEM, "%s: no memory for its directory", z->label);
    if (rc == 0)
        rc = read_at(z, d.at, b, (size_t)d.bytes, e);
    size_t at = 0, used = 0;
    for (int64_t i = 0; rc == 0 && i < d.entries; i++, at += used)
        rc = add_record(z, b + at, (size_t)d.bytes - at, &used, e);
    free(b);
    if (rc == 0)
        rc = check_total(z, e);
    return rc ? rc : check_overlap(z, e);
}

int unzip_open(const char *path, const char *label, const struct unzip_limits *limits, struct unzip **out,
               struct err *e)
{
    *out = NULL;
    struct unzip *z = calloc(1, sizeof(*z));
    label = label ? label : path;
    if (!z || !(z->label = strdup(label))) {
        free(z);
        return err_set(e, ERR_NOMEM, "%s: no memory to open it", label);
    }
    z->limits = defaults;
    if (limits && limits->max_entries)
        z->limits.max_entries = limits->max_entries;
    if (limits && limits->max_entry_bytes)
        z->limits.max_entry_bytes = limits->max_entry_bytes;
    if (limits && limits->max_bytes)
        z->limits.max_bytes = limits->max_bytes;
    struct stat st;
    int rc = 0;
    if ((z->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0 || fstat(z->fd, &st))
        rc = err_errno(e, "opening %s", label);
    else
        z->file_bytes = st.st_size;
    if (rc == 0)
        rc = load_directory(z, e);
    if (rc)
        unzip_close(z);
    else
        *out = z;
    return rc;
}

size_t unzip_count(const struct unzip *z)
{
    return z->n;
}

const struct unzip_entry *unzip_entry(const struct unzip *z, size_t i)
{
    return &z->v[i];
}

void unzip_close(struct unzip *z)
{
    if (!z)
        return;
    if (z->fd >= 0)
        close(z->fd);
    for (size_t i = 0; i < z->n; i++)
        free(z->v[i].name);
    free(z->v);
    free(z->label);
    free(z);
}

/* ---- entries ---------------------------------------------------------------------------------------------------------- */

/* Unpacks `in` into exactly `size` bytes at `out`. */
static int inflate_exactly(const uint8_t *in, size_t packed, uint8_t *out, size_t size)
{
    z_stream s = {
        .next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)packed, .next_out = out, .avail_out = (uInt)size};
    uint8_t spare;
    if (size == 0) { /* zlib wants somewhere to write */
        s.next_out = &spare;
        s.avail_out = 1;
    }
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return ERR_NOMEM;
    int rc = inflate(&s, Z_FINISH);
    bool ok = rc == Z_STREAM_END && s.total_out == size;
    inflateEnd(&s);
    return ok ? 0 : ERR_CORRUPT;
}

int unzip_read(const struct unzip *z, size_t i, struct buf *out, struct err *e)
{
    const struct unzip_entry *n = &z->v[i];
    uint8_t local[SIZE_LOCAL], *packed = NULL;
    int rc = read_at(z, n->offset, local, sizeof(local), e);
    if (rc)
        return rc;
    if (u32(local) != SIG_LOCAL || n->packed > UINT32_MAX || n->size > UINT32_MAX)
        return err_set(e, ERR_CORRUPT, "%s: entry '%s' is damaged", z->label, n->name);
    int64_t at = n->offset + SIZE_LOCAL + u16(local + 26) + u16(local + 28);
    uint8_t *to = buf_reserve(out, (size_t)n->size + 1);
    if (!to)
        return err_set(e, ERR_NOMEM, "%s: no memory for entry '%s'", z->label, n->name);
    if (n->method == STORED) {
        rc = read_at(z, at, to, (size_t)n->size, e);
    } else if (!(packed = malloc(n->packed ? (size_t)n->packed : 1))) {
        rc = err_set(e, ERR_NOMEM, "%s: no memory for entry '%s'", z->label, n->name);
    } else {
        rc = read_at(z, at, packed, (size_t)n->packed, e);
        if (rc == 0 && (rc = inflate_exactly(packed, (size_t)n->packed, to, (size_t)n->size)))
            err_set(e, rc, "%s: entry '%s' is damaged, or unpacks to another size than it claims", z->label, n->name);
    }
    free(packed);
    if (rc == 0 && crc32(0, to, (uInt)n->size) != n->crc)
        rc = err_set(e, ERR_CORRUPT, "%s: entry '%s' does not match its checksum", z->label, n->name);
    if (rc == 0)
        out->len += (size_t)n->size;
    return rc;
}

int unzip_sniff(const char *path)
{
    uint8_t b[4] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, b, sizeof(b));
    close(fd);
    return n == 4 && (u32(b) == SIG_LOCAL || u32(b) == SIG_END);
}
