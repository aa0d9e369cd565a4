/*
 * Zip writer. A local header, the bytes, and one directory record kept in memory per entry; the directory and the end
 * records close the archive. Whole entries carry size and CRC in front; entries in pieces carry them in a data
 * descriptor with the zip64 field announced in the local header, so their sizes need not be known. The date is fixed
 * (1980-01-01), the earliest the format has.
 */
#include "core/media/zip.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "core/base/buf.h"

enum {
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    EXTRA_LOCAL64_BYTES = 20,
    FLAG_DESCRIPTOR = 1 << 3,
    FLAG_UTF8 = 1 << 11,
    VERSION_PLAIN = 10,
    VERSION_ZIP64 = 45,
    DOS_DATE_1980 = 0x21,
};
#define MAX32 UINT32_C(0xffffffff)
#define NAME_BYTES_MAX 65535

struct zip_writer {
    zip_write_fn write;
    void *arg;
    int64_t at, entries;
    struct buf directory;
    bool failed;
    /* the entry being written */
    bool open;
    char *name;
    int64_t start, size;
    uint32_t crc;
};

struct record { /* little-endian bytes under construction */
    uint8_t b[128];
    size_t n;
};

static void put(struct record *r, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        r->b[r->n++] = (uint8_t)(v >> (8 * i));
}

static uint32_t clip32(int64_t v)
{
    return v >= (int64_t)MAX32 ? MAX32 : (uint32_t)v;
}

static int emit(struct zip_writer *z, const void *data, size_t n, struct err *e)
{
    int rc = n ? z->write(z->arg, data, n, e) : 0;
    if (rc < 0) {
        z->failed = true;
        return rc;
    }
    z->at += (int64_t)n;
    return 0;
}

static int check(struct zip_writer *z, bool open, struct err *e)
{
    BUG_ON(z->open != open);
    return z->failed ? err_set(e, ERR_IO, "the zip already failed") : 0;
}

static bool name_is_safe(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > NAME_BYTES_MAX || name[0] == '/' || strchr(name, '\\'))
        return false;
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return false;
        p += n + (p[n] != 0);
    }
    return true;
}

struct zip_writer *zip_writer_new(zip_write_fn fn, void *arg)
{
    struct zip_writer *z = calloc(1, sizeof(*z));
    if (z) {
        z->write = fn;
        z->arg = arg;
    }
    return z;
}

/* APPNOTE 4.3.7. Sizes of a streamed entry stand in its descriptor; the zip64 extra field (4.5.3) says that those are 8
 * bytes. */
static int start_entry(struct zip_writer *z, const char *name, bool streamed, uint32_t crc, int64_t size, struct err *e)
{
    if (!name_is_safe(name))
        return err_set(e, ERR_INVALID, "not a name for a zip entry: '%.100s'", name);
    struct record r = {.n = 0};
    bool wide = streamed || size >= (int64_t)MAX32;
    put(&r, 0x04034b50, 4);
    put(&r, wide ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    put(&r, FLAG_UTF8 | (streamed ? FLAG_DESCRIPTOR : 0), 2);
    put(&r, 0, 2); /* stored */
    put(&r, (uint32_t)DOS_DATE_1980 << 16, 4);
    put(&r, crc, 4);
    put(&r, wide ? MAX32 : (uint64_t)size, 4);
    put(&r, wide ? MAX32 : (uint64_t)size, 4);
    put(&r, strlen(name), 2);
    put(&r, wide ? EXTRA_LOCAL64_BYTES : 0, 2);
    z->start = z->at;
    z->size = 0;
    z->crc = (uint32_t)crc32(0, NULL, 0);
    int rc = emit(z, r.b, r.n, e);
    if (rc == 0)
        rc = emit(z, name, strlen(name), e);
    if (rc < 0 || !wide)
        return rc;
    r.n = 0;
    put(&r, 1, 2);
    put(&r, 16, 2);
    put(&r, streamed ? 0 : (uint64_t)size, 8);
    put(&r, streamed ? 0 : (uint64_t)size, 8);
    return emit(z, r.b, r.n, e);
}

/* APPNOTE 4.3.12: only the values that do not fit stand in the zip64 extra field, in this order. */
static int add_to_directory(struct zip_writer *z, const char *name, bool streamed, struct err *e)
{
    bool wide_size = z->size >= (int64_t)MAX32, wide_start = z->start >= (int64_t)MAX32;
    int wide = (wide_size ? 16 : 0) + (wide_start ? 8 : 0);
    struct record r = {.n = 0};
    put(&r, 0x02014b50, 4);
    put(&r, 3 << 8 | VERSION_ZIP64, 2); /* made on Unix */
    put(&r, streamed || wide ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    put(&r, FLAG_UTF8 | (streamed ? FLAG_DESCRIPTOR : 0), 2);
    put(&r, 0, 2);
    put(&r, (uint32_t)DOS_DATE_1980 << 16, 4);
    put(&r, z->crc, 4);
    put(&r, clip32(z->size), 4);
    put(&r, clip32(z->size), 4);
    put(&r, strlen(name), 2);
    put(&r, wide ? 4 + (uint64_t)wide : 0, 2);
    put(&r, 0, 6);                       /* comment, disk, internal attributes */
    put(&r, (uint64_t)0100644 << 16, 4); /* a regular file, rw-r--r-- */
    put(&r, clip32(z->start), 4);
    buf_append(&z->directory, r.b, r.n);
    buf_puts(&z->directory, name);
    r.n = 0;
    if (wide) {
        put(&r, 1, 2);
        put(&r, (uint64_t)wide, 2);
        if (wide_size) {
            put(&r, (uint64_t)z->size, 8);
            put(&r, (uint64_t)z->size, 8);
        }
        if (wide_start)
            put(&r, (uint64_t)z->start, 8);
        buf_append(&z->directory, r.b, r.n);
    }
    z->entries++;
    z->failed |= z->directory.failed;
    return z->directory.failed ? err_set(e, ERR_NOMEM, "no memory for the zip directory") : 0;
}

static uint32_t crc_of(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    while (len) {
        uInt n = len > (1u << 30) ? 1u << 30 : (uInt)len;
        crc = (uint32_t)crc32(crc, p, n);
        p += n;
        len -= n;
    }
    return crc;
}

int zip_add(struct zip_writer *z, const char *name, const void *data, size_t len, struct err *e)
{
    uint32_t crc = crc_of((uint32_t)crc32(0, NULL, 0), data, len);
    int rc = check(z, false, e);
    if (rc == 0)
        rc = start_entry(z, name, false, crc, (int64_t)len, e);
    if (rc == 0)
        rc = emit(z, data, len, e);
    z->crc = crc;
    z->size = (int64_t)len;
    return rc < 0 ? rc : add_to_directory(z, name, false, e);
}

int zip_begin(struct zip_writer *z, const char *name, struct err *e)
{
    int rc = check(z, false, e);
    if (rc == 0)
        rc = start_entry(z, name, true, 0, 0, e);
    if (rc < 0)
        return rc;
    if (!(z->name = strdup(name))) {
        z->failed = true;
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    z->open = true;
    return 0;
}

int zip_data(struct zip_writer *z, const void *data, size_t len, struct err *e)
{
    int rc = check(z, true, e);
    if (rc == 0)
        rc = emit(z, data, len, e);
    if (rc < 0)
        return rc;
    z->crc = crc_of(z->crc, data, len);
    z->size += (int64_t)len;
    return 0;
}

int zip_end(struct zip_writer *z, struct err *e)
{
    struct record r = {.n = 0};
    int rc = check(z, true, e);
    put(&r, 0x08074b50, 4);
    put(&r, z->crc, 4);
    put(&r, (uint64_t)z->size, 8);
    put(&r, (uint64_t)z->size, 8);
    if (rc == 0)
        rc = emit(z, r.b, r.n, e);
    if (rc == 0)
        rc = add_to_directory(z, z->name, true, e);
    free(z->name);
    z->name = NULL;
    z->open = false;
    return rc;
}

static void put_end64(struct record *r, const struct zip_writer *z, int64_t directory_at)
{
    put(r, 0x06064b50, 4);
    put(r, END64_BYTES - 12, 8);
    put(r, 3 << 8 | VERSION_ZIP64, 2);
    put(r, VERSION_ZIP64, 2);
    put(r, 0, 8); /* disks */
    put(r, (uint64_t)z->entries, 8);
    put(r, (uint64_t)z->entries, 8);
    put(r, z->directory.len, 8);
    put(r, (uint64_t)directory_at, 8);
    put(r, 0x07064b50, 4); /* locator */
    put(r, 0, 4);
    put(r, (uint64_t)directory_at + z->directory.len, 8);
    put(r, 1, 4);
}

int zip_finish(struct zip_writer *z, struct err *e)
{
    struct record r = {.n = 0};
    int64_t directory_at = z->at;
    int rc = check(z, false, e);
    if (rc == 0)
        rc = emit(z, z->directory.data, z->directory.len, e);
    if (rc < 0)
        return rc;
    if (z->entries >= 0xffff || directory_at >= (int64_t)MAX32 || z->directory.len >= MAX32)
        put_end64(&r, z, directory_at);
    put(&r, 0x06054b50, 4);
    put(&r, 0, 4);
    put(&r, (uint64_t)(z->entries > 0xffff ? 0xffff : z->entries), 2);
    put(&r, (uint64_t)(z->entries > 0xffff ? 0xffff : z->entries), 2);
    put(&r, clip32((int64_t)z->directory.len), 4);
    put(&r, clip32(directory_at), 4);
    put(&r, 0, 2);
    return emit(z, r.b, r.n, e);
}

int64_t zip_bytes(const struct zip_writer *z)
{
    return z->at;
}

void zip_writer_free(struct zip_writer *z)
{
    if (!z)
        return;
    buf_free(&z->directory);
    free(z->name);
    free(z);
}

int64_t zip_entry_bytes(const char *name, int64_t len)
{
    return LOCAL_BYTES + CENTRAL_BYTES + 2 * (int64_t)strlen(name) + len;
}

int64_t zip_end_bytes(void)
{
    return END_BYTES;
}
