/*
 * Zip (APPNOTE 6.3) as far as torch.save writes it: one disk, no compression, no encryption, zip64 for large files.
 * Everything is found from the central directory, and each number of it is checked against the file before it is used.
 * Members may not be looked at by their local headers alone: a file that says two things is refused.
 */
#include "core/tensor/pth_zip.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "core/base/buf.h"
#include "core/tensor/weights_file.h"

#define END_BYTES 22     /* end of central directory, without its comment */
#define LOCATOR_BYTES 20 /* zip64 end of central directory locator */
#define END64_BYTES 56   /* zip64 end of central directory */
#define CENTRAL_BYTES 46 /* central directory entry, without name, extra and comment */
#define LOCAL_BYTES 30   /* local header, without name and extra */
#define NAME_SHOWN 120

struct pth_member {
    const uint8_t *name;
    size_t name_len;
    uint64_t header; /* offset of the local header */
    uint64_t bytes;
    uint32_t crc;
    bool checked; /* the checksum was verified */
};

struct directory {
    uint64_t offset, bytes, entries;
};

static int damaged(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, "zip: %s", what);
}

/* The zip64 record that the locator before the end record points to. */
static int find_directory64(const uint8_t *data, uint64_t end, struct directory *d, struct err *e)
{
    if (end < LOCATOR_BYTES || memcmp(data + end - LOCATOR_BYTES, "PK\6\7", 4) != 0)
        return damaged(e, "the zip64 locator is missing");
    uint64_t at = le64(data + end - LOCATOR_BYTES + 8);
    if (end < LOCATOR_BYTES + END64_BYTES || at > end - LOCATOR_BYTES - END64_BYTES ||
        memcmp(data + at, "PK\6\6", 4) != 0)
        return damaged(e, "the zip64 end record is missing");
    d->entries = le64(data + at + 32);
    d->bytes = le64(data + at + 40);
    d->offset = le64(data + at + 48);
    return 0;
}

/* The end record is the last 22 bytes, or earlier by a comment of at most 65535. */
static int find_directory(const uint8_t *data, size_t len, struct directory *d, struct err *e)
{
    if (len < END_BYTES)
        return damaged(e, "too short");
    size_t at = len - END_BYTES, stop = at > 0xffff ? at - 0xffff : 0;
    while (memcmp(data + at, "PK\5\6", 4) != 0 || le16(data + at + 20) != len - END_BYTES - at) {
        if (at == stop)
            return damaged(e, "the end of the archive is missing (cut short?)");
        at--;
    }
    d->entries = le16(data + at + 10);
    d->bytes = le32(data + at + 12);
    d->offset = le32(data + at + 16);
    int rc = 0;
    if (d->entries == 0xffff || d->bytes == 0xffffffff || d->offset == 0xffffffff)
        rc = find_directory64(data, at, d, e);
    if (!rc && (d->offset > at || d->bytes > at - d->offset || d->entries > d->bytes / CENTRAL_BYTES))
        rc = damaged(e, "the directory lies outside the file");
    return rc;
}

/* Sizes and offset that do not fit 32 bits stand in the zip64 extra field, in this order, those that are 0xffffffff
 * only. */
static int read_extra64(const uint8_t *extra, size_t len, uint64_t *plain, uint64_t *packed, uint64_t *offset,
                        struct err *e)
{
    uint64_t *fields[] = {plain, packed, offset};
    bool wanted = *plain == 0xffffffff || *packed == 0xffffffff || *offset == 0xffffffff;
    for (size_t at = 0; wanted && at + 4 <= len;) {
        size_t n = le16(extra + at + 2);
        const uint8_t *p = extra + at + 4;
        if (n > len - at - 4)
            break;
        at += 4 + n;
        if (le16(p - 4) != 1)
            continue;
        for (int i = 0; i < 3; i++) {
            if (*fields[i] != 0xffffffff)
                continue;
            if (n < 8)
                return damaged(e, "a zip64 field is too short");
            *fields[i] = le64(p);
            p += 8;
            n -= 8;
        }
        return 0;
    }
    return wanted ? damaged(e, "a zip64 field is missing") : 0;
}

/* One directory entry at *at. */
static int read_member(const uint8_t **at, const uint8_t *end, struct pth_member *m, struct err *e)
{
    const uint8_t *p = *at;
    if (end - p < CENTRAL_BYTES || memcmp(p, "PK\1\2", 4) != 0)
        return damaged(e, "a directory entry is damaged");
    size_t name = le16(p + 28), extra = le16(p + 30), comment = le16(p + 32);
    if ((size_t)(end - p) - CENTRAL_BYTES < name + extra + comment)
        return damaged(e, "a directory entry is cut short");
    if (le16(p + 8) & 1)
        return err_set(e, ERR_UNSUPPORTED, "zip: encrypted members");
    if (le16(p + 10) != 0)
        return err_set(e, ERR_UNSUPPORTED, "zip: compressed members (torch.save stores them)");
    m->crc = le32(p + 16);
    uint64_t packed = le32(p + 20);
    m->bytes = le32(p + 24);
    m->header = le32(p + 42);
    m->name = p + CENTRAL_BYTES;
    m->name_len = name;
    int rc = read_extra64(m->name + name, extra, &m->bytes, &packed, &m->header, e);
    if (!rc && packed != m->bytes)
        rc = damaged(e, "a stored member has two sizes");
    *at = p + CENTRAL_BYTES + name + extra + comment;
    return rc;
}

static int compare_name(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    size_t n = a_len < b_len ? a_len : b_len;
    int order = n ? memcmp(a, b, n) : 0;
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_members(const void *a, const void *b)
{
    const struct pth_member *x = a, *y = b;
    return compare_name(x->name, x->name_len, y->name, y->name_len);
}

static int find_root(struct pth_zip *z, struct err *e)
{
    static const char pkl[] = "/data.pkl";
    const size_t pkl_len = sizeof pkl - 1;
    for (size_t i = 0; i < z->n; i++) {
        const struct pth_member *m = &z->members[i];
        if (i && !compare_members(m - 1, m))
            return damaged(e, "two members have one name");
        if (m->name_len <= pkl_len || memcmp(m->name + m->name_len - pkl_len, pkl, pkl_len) != 0)
            continue;
        if (z->root)
            return damaged(e, "two members are called data.pkl");
        z->root = m->name;
        z->root_len = m->name_len - pkl_len + 1;
    }
    return z->root ? 0 : err_set(e, ERR_UNSUPPORTED, "a zip archive without data.pkl: not a PyTorch checkpoint");
}

/* The member ROOT/prefix+key; *m is NULL when there is none. */
static int search(const struct pth_zip *z, const char *prefix, const uint8_t *key, size_t key_len,
                  struct pth_member **m, struct err *e)
{
    struct buf name = BUF_INIT;
    buf_append(&name, z->root, z->root_len);
    buf_puts(&name, prefix);
    buf_append(&name, key, key_len);
    int rc = name.failed ? err_set(e, ERR_NOMEM, "out of memory for a member's name") : 0;
    struct pth_member wanted = {.name = (const uint8_t *)name.data, .name_len = name.len};
    *m = rc ? NULL : bsearch(&wanted, z->members, z->n, sizeof wanted, compare_members);
    buf_free(&name);
    return rc;
}

/* Where a member's data is; local header and directory must agree on the name. */
static int locate(const struct pth_zip *z, struct pth_member *m, const uint8_t **out, struct err *e)
{
    char text[NAME_SHOWN];
    const uint8_t *p = z->data + m->header;
    printable(text, sizeof text, m->name, m->name_len);
    if (m->header > z->len || z->len - m->header < LOCAL_BYTES || memcmp(p, "PK\3\4", 4) != 0)
        return err_set(e, ERR_CORRUPT, "zip: %s has no local header", text);
    uint64_t skip = LOCAL_BYTES + (uint64_t)le16(p + 26) + le16(p + 28);
    uint64_t room = z->len - m->header;
    if (skip > room || m->bytes > room - skip || le16(p + 26) != m->name_len ||
        memcmp(p + LOCAL_BYTES, m->name, m->name_len) != 0)
        return err_set(e, ERR_CORRUPT, "zip: %s lies outside the file or is called otherwise there", text);
    *out = p + skip;
    if (!m->checked && crc32_z(0, *out, m->bytes) != m->crc)
        return err_set(e, ERR_CORRUPT, "zip: %s fails its checksum", text);
    m->checked = true;
    return 0;
}

int pth_zip_find(struct pth_zip *z, const char *prefix, const uint8_t *key, size_t key_len, const uint8_t **data,
                 size_t *len, struct err *e)
{
    char text[NAME_SHOWN];
    struct pth_member *m;
    int rc = search(z, prefix, key, key_len, &m, e);
    if (rc)
        return rc;
    if (!m)
        return err_set(e, ERR_CORRUPT, "zip: %s%s is missing", prefix, printable(text, sizeof text, key, key_len));
    *len = (size_t)m->bytes;
    return locate(z, m, data, e);
}

/* Newer writers record their byte order; there is none but little-endian here. */
static int check_byteorder(struct pth_zip *z, struct err *e)
{
    const uint8_t *text = NULL;
    struct pth_member *m;
    int rc = search(z, "byteorder", NULL, 0, &m, e);
    if (!m)
        return rc;
    rc = locate(z, m, &text, e);
    if (!rc && (!text || m->bytes != 6 || memcmp(text, "little", 6) != 0))
        rc = err_set(e, ERR_UNSUPPORTED, "a checkpoint of a big-endian machine");
    return rc;
}

int pth_zip_open(struct pth_zip *z, const uint8_t *data, size_t len, struct err *e)
{
    struct directory d = {0};
    *z = (struct pth_zip){.data = data, .len = len};
    int rc = find_directory(data, len, &d, e);
    if (rc)
        return rc;
    z->members = calloc(d.entries ? d.entries : 1, sizeof *z->members);
    if (!z->members)
        return err_set(e, ERR_NOMEM, "out of memory for %" PRIu64 " zip members", d.entries);
    const uint8_t *at = data + d.offset, *end = at + d.bytes;
    uint64_t room = len; /* members that overlap would make a small file a lot of work */
    for (uint64_t i = 0; i < d.entries && !rc; i++) {
        struct pth_member *m = &z->members[z->n++];
        rc = read_member(&at, end, m, e);
        if (!rc && m->bytes > room)
            rc = damaged(e, "the members are larger than the file");
        room -= m->bytes;
    }
    if (rc)
        return rc;
    qsort(z->members, z->n, sizeof *z->members, compare_members);
    rc = find_root(z, e);
    return rc ? rc : check_byteorder(z, e);
}

void pth_zip_close(struct pth_zip *z)
{
    free(z->members);
    z->members = NULL;
    z->n = 0;
}
