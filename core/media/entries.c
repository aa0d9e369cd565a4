/*
 * Entry lists. A frame's name is its path without the directories all frames share and without the extension; where two
 * would get one name
 * ("1.jpg", "1.png") both keep their extension. Bytes that are not printable UTF-8 become '_', so a name is safe in a
 * path, in JSON and in a zip.
 */
#include "core/media/entries.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/fs.h"

#define ENTRY_PATH_MAX 1024

static const char *const extensions[] = {"jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "ppm", "pgm", "pbm"};

int entries_check_path(const char *path, struct err *e)
{
    size_t len = strlen(path);
    bool bad = len == 0 || len > ENTRY_PATH_MAX || path[0] == '/' || path[0] == '\\';
    for (const char *p = path; !bad && *p;) {
        size_t n = strcspn(p, "/\\");
        bad = n == 2 && p[0] == '.' && p[1] == '.';
        p += n + (p[n] != 0);
    }
    return bad ? err_set(e, ERR_INVALID, "the path '%.100s' leads outside the archive", path) : 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool entries_is_image(const char *path)
{
    const char *base = base_name(path), *dot = strrchr(base, '.');
    if (base[0] == '.' || !dot || strncmp(path, "__MACOSX/", 9) == 0 || strstr(path, "/__MACOSX/"))
        return false;
    for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++)
        if (strcasecmp(dot + 1, extensions[i]) == 0)
            return true;
    return false;
}

int entries_add(struct entries *l, const char *path, int64_t size, size_t position, struct err *e)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct entry *grown = realloc(l->v, cap * sizeof(*grown));
        if (!grown)
            return err_set(e, ERR_NOMEM, "out of memory");
        l->v = grown;
        l->cap = cap;
    }
    char *copy = strdup(path);
    if (!copy)
        return err_set(e, ERR_NOMEM, "out of memory");
    l->v[l->n++] = (struct entry){.path = copy, .size = size, .position = position};
    return 0;
}

/* Length of the well-formed UTF-8 sequence at s, or 0 (RFC 3629 section 4; overlong forms and surrogates are not). */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : (s[0] & 0xf8) == 0xf0 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((n == 2 && s[0] < 0xc2) || (n == 3 && s[0] == 0xe0 && s[1] < 0xa0) || (n == 3 && s[0] == 0xed && s[1] > 0x9f) ||
        (n == 4 && s[0] == 0xf0 && s[1] < 0x90) || (n == 4 && (s[0] > 0xf4 || (s[0] == 0xf4 && s[1] > 0x8f))))
        return 0;
    return n;
}

static void make_safe(char *s)
{
    for (unsigned char *p = (unsigned char *)s; *p;) {
        size_t n = utf8_length(p);
        if (n == 0 || *p < ' ' || *p == 0x7f || *p == '\\') {
            *p = '_';
            n = 1;
        }
        p += n;
    }
}

static char *name_of(const char *path, bool keep_extension)
{
    char *name = strdup(path);
    if (!name)
        return NULL;
    char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
    if (!keep_extension && dot && dot != name && (!slash || dot > slash + 1))
        *dot = 0;
    make_safe(name);
    return name;
}

char *entries_stem(const char *path)
{
    return name_of(base_name(path), false);
}

static int by_path(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = fs_natural_cmp(x->path, y->path);
    return c ? c : strcmp(x->path, y->path);
}

static int by_name(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Length of the directories that all paths begin with, with the last '/'. */
static size_t common_directories(const struct entries *l)
{
    const char *first = l->v[0].path;
    size_t n = (size_t)(base_name(first) - first);
    for (size_t i = 1; i < l->n && n; i++)
        while (n && strncmp(first, l->v[i].path, n) != 0) {
            do
                n--;
            while (n && first[n - 1] != '/');
        }
    return n;
}

/* Gives names that stand twice their extension. Returns how many were doubled, or -1 without memory. */
static int separate_doubles(struct entries *l, struct entry **sorted, size_t skip)
{
    int doubled = 0;
    qsort(sorted, l->n, sizeof(struct entry *), by_name);
    for (size_t i = 0; i < l->n;) {
        size_t end = i + 1;
        while (end < l->n && strcmp(sorted[i]->name, sorted[end]->name) == 0)
            end++;
        for (size_t k = i; end - i > 1 && k < end; k++, doubled++) {
            char *name = name_of(sorted[k]->path + skip, true);
            if (!name)
                return -1;
            free(sorted[k]->name);
            sorted[k]->name = name;
        }
        i = end;
    }
    return doubled;
}

static int give_names(struct entries *l, struct err *e)
{
    size_t skip = common_directories(l);
    struct entry **sorted = malloc(l->n * sizeof(struct entry *));
    bool ok = sorted != NULL;
    for (size_t i = 0; ok && i < l->n; i++) {
        sorted[i] = &l->v[i];
        l->v[i].name = name_of(l->v[i].path + skip, false);
        ok = l->v[i].name != NULL;
    }
    int doubled = ok ? separate_doubles(l, sorted, skip) : -1;
    if (doubled > 0)
        doubled = separate_doubles(l, sorted, skip);
    int rc = doubled == 0  ? 0
             : doubled > 0 ? err_set(e, ERR_INVALID, "two images would have the same name")
                           : err_set(e, ERR_NOMEM, "out of memory");
    free(sorted);
    return rc;
}

int entries_finish(struct entries *l, struct err *e)
{
    if (l->n == 0)
        return err_set(e, ERR_UNSUPPORTED, "holds no image");
    qsort(l->v, l->n, sizeof(*l->v), by_path);
    for (size_t i = 1; i < l->n; i++)
        if (strcmp(l->v[i - 1].path, l->v[i].path) == 0)
            return err_set(e, ERR_INVALID, "holds '%.100s' twice", l->v[i].path);
    return give_names(l, e);
}

void entries_free(struct entries *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].path);
        free(l->v[i].name);
    }
    free(l->v);
    *l = (struct entries){0};
}
