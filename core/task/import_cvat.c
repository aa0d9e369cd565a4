/*
 * CVAT for images 1.1 in: the start tags of annotations.xml, of which <image> and <mask> matter. The scanner knows tags,
 * attributes, comments and the five named entities; document types and other entities are refused, so nothing expands.
 * A label's number is what its name ends with ("object_3"), else the position of its name in the document.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/task/import_impl.h"

enum { LABEL_MAX = 255, ATTRIBUTES_MAX = 32 };

struct tag { /* NUL-terminated pieces of the document itself */
    char *name;
    char *key[ATTRIBUTES_MAX], *value[ATTRIBUTES_MAX];
    size_t n;
};

struct scanner {
    char *at, *end;
};

static const char *attribute(const struct tag *t, const char *key)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->key[i], key) == 0)
            return t->value[i];
    return NULL;
}

static int damaged(struct err *e)
{
    return err_set(e, ERR_INVALID, "annotations.xml is damaged");
}

/* Replaces entities in place. */
static int unescape(char *s, struct err *e)
{
    static const struct {
        const char *name;
        char c;
    } known[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char *out = s;
    while (*s) {
        size_t i = 0;
        while (*s == '&' && i < 5 && strncmp(s, known[i].name, strlen(known[i].name)) != 0)
            i++;
        if (*s == '&' && i == 5)
            return err_set(e, ERR_UNSUPPORTED, "annotations.xml has an entity that is not known");
        if (*s == '&') {
            *out++ = known[i].c;
            s += strlen(known[i].name);
        } else {
            *out++ = *s++;
        }
    }
    *out = '\0';
    return 0;
}

/* One attribute: key="value". The scanner stands behind it then. */
static int take_attribute(struct scanner *s, struct tag *t, struct err *e)
{
    char *key = s->at, *equals = memchr(key, '=', (size_t)(s->end - key));
    if (!equals || t->n == ATTRIBUTES_MAX || equals + 1 >= s->end)
        return damaged(e);
    char quote = equals[1], *value = equals + 2;
    char *close = quote == '"' || quote == '\'' ? memchr(value, quote, (size_t)(s->end - value)) : NULL;
    if (!close)
        return damaged(e);
    *equals = *close = '\0';
    for (char *p = equals; p > key && isspace((unsigned char)p[-1]);)
        *--p = '\0';
    s->at = close + 1;
    t->key[t->n] = key;
    t->value[t->n++] = value;
    return unescape(value, e);
}

/* What begins with "<!" or "<?": comments and the declaration are passed over. */
static int skip_special(struct scanner *s, struct err *e)
{
    bool comment = strncmp(s->at, "<!--", 4) == 0;
    if (s->at[1] == '!' && !comment)
        return err_set(e, ERR_UNSUPPORTED, "annotations.xml has a document type or a raw section");
    char *end = strstr(s->at, comment ? "-->" : "?>");
    if (!end)
        return damaged(e);
    s->at = end + 2;
    return 0;
}

/* The next start tag: 1, or 0 at the end. The name of an end tag begins with '/'. */
static int next_tag(struct scanner *s, struct tag *t, struct err *e)
{
    int rc = 0;
    *t = (struct tag){0};
    while (rc == 0 && (s->at = memchr(s->at, '<', (size_t)(s->end - s->at))) && (s->at[1] == '!' || s->at[1] == '?'))
        rc = skip_special(s, e);
    if (rc || !s->at) {
        s->at = s->end;
        return rc;
    }
    t->name = ++s->at;
    s->at += strcspn(s->at, " \t\r\n>/") ? strcspn(s->at, " \t\r\n>/") : 1 + strcspn(s->at + 1, " \t\r\n>");
    char *after_name = s->at;
    for (;;) {
        s->at += strspn(s->at, " \t\r\n/");
        if (s->at >= s->end)
            return damaged(e);
        if (*s->at == '>')
            break;
        rc = take_attribute(s, t, e);
        if (rc)
            return rc;
    }
    s->at++;
    *after_name = '\0';
    return 1;
}

/* ---- masks ------------------------------------------------------------------------------------------------------ */

static int64_t number(const struct tag *t, const char *key, int64_t max)
{
    const char *text = attribute(t, key);
    char *end = NULL;
    long long v = text ? strtoll(text, &end, 10) : -1;
    return text && end != text && v >= 0 && v <= max ? v : -1;
}

static int label_number(json_t *names, const char *label, struct err *e)
{
    size_t n = strlen(label), digits = 0;
    while (digits < n && isdigit((unsigned char)label[n - digits - 1]))
        digits++;
    long long v = digits && digits < 4 ? strtoll(label + n - digits, NULL, 10) : 0;
    if (v >= 1 && v <= LABEL_MAX)
        return (int)v;
    const json_t *known = json_object_get(names, label);
    if (known)
        return (int)json_integer_value(known);
    int next = (int)json_object_size(names) + 1;
    if (next > LABEL_MAX || json_object_set_new(names, label, json_integer(next)))
        return err_set(e, ERR_LIMIT, "annotations.xml has more than %d labels, or one that is not UTF-8", LABEL_MAX);
    return next;
}

static int add_mask(struct import_mask *m, const struct tag *t, json_t *names, struct err *e)
{
    const char *label = attribute(t, "label"), *rle = attribute(t, "rle");
    int64_t left = number(t, "left", INT16_MAX), top = number(t, "top", INT16_MAX),
            width = number(t, "width", INT16_MAX), height = number(t, "height", INT16_MAX);
    if (!m || !label || !rle || left < 0 || top < 0 || width < 1 || height < 1)
        return err_set(e, ERR_INVALID, "annotations.xml: a mask lacks its image, its label, its runs or its box");
    int v = label_number(names, label, e);
    if (v < 0)
        return v;
    json_t *object = json_pack("{s:i, s:s, s:I, s:I, s:I, s:I}", "label", v, "rle", rle, "left", (json_int_t)left,
                               "top", (json_int_t)top, "width", (json_int_t)width, "height", (json_int_t)height);
    if (!m->objects)
        m->objects = json_array();
    return json_array_append_new(m->objects, object) ? damaged(e) : 0;
}

static int paint(const json_t *o, struct frame *labels, struct err *e)
{
    int x = (int)json_integer_value(json_object_get(o, "left")), y = (int)json_integer_value(json_object_get(o, "top"));
    const struct rle_box box = {x, y, x + (int)json_integer_value(json_object_get(o, "width")) - 1,
                                y + (int)json_integer_value(json_object_get(o, "height")) - 1, 0};
    if (box.x1 >= labels->width_px || box.y1 >= labels->height_px)
        return err_set(e, ERR_INVALID, "the mask's box leaves its picture of %d x %d", labels->width_px,
                       labels->height_px);
    return rle_cvat_decode(json_string_value(json_object_get(o, "rle")), &box, labels,
                           (int)json_integer_value(json_object_get(o, "label")), e);
}

struct cvat {
    struct import *im;
    json_t *names;
    char *picture; /* of the <image> that is open; NULL outside of one */
    int64_t width_px, height_px;
};

static int read_tag(struct cvat *c, const struct tag *t, struct err *e)
{
    static const char *const shapes[] = {"box", "polygon", "polyline", "points", "cuboid", "ellipse", "skeleton"};
    if (strcmp(t->name, "track") == 0)
        return err_set(e, ERR_UNSUPPORTED, "annotations.xml has tracks; export it as CVAT for images 1.1");
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        if (strcmp(t->name, shapes[i]) == 0 && c->picture)
            return err_set(e, ERR_UNSUPPORTED, "annotations.xml has a %s; only masks can be imported", shapes[i]);
    if (strcmp(t->name, "/image") == 0)
        c->picture = NULL;
    if (strcmp(t->name, "image") == 0) {
        c->picture = (char *)(uintptr_t)attribute(t, "name");
        c->width_px = number(t, "width", INT32_MAX);
        c->height_px = number(t, "height", INT32_MAX);
        return c->picture ? 0 : err_set(e, ERR_INVALID, "annotations.xml: an image has no name");
    }
    if (strcmp(t->name, "mask") != 0)
        return 0;
    struct import_mask *m = c->picture ? import_mask_of(c->im, c->picture, e) : NULL;
    if (!m && c->picture)
        return e->code;
    if (m) {
        m->width_px = c->width_px;
        m->height_px = c->height_px;
    }
    return add_mask(m, t, c->names, e);
}

int import_cvat(struct import *im, struct err *e)
{
    struct buf xml = BUF_INIT;
    struct tag t;
    struct cvat c = {.im = im, .names = json_object()};
    im->paint = paint;
    int rc = import_document(im, "annotations.xml", &xml, e);
    if (rc == 0)
        rc = err_set(e, ERR_INVALID, "the archive has no annotations.xml");
    if (rc == 1 && memchr(xml.data, '\0', xml.len))
        rc = damaged(e);
    struct scanner s = {xml.data, xml.data ? xml.data + xml.len : NULL};
    while (rc == 1 && (rc = next_tag(&s, &t, e)) == 1) {
        rc = read_tag(&c, &t, e);
        rc = rc ? rc : 1;
    }
    json_decref(c.names);
    buf_free(&xml);
    return rc;
}
