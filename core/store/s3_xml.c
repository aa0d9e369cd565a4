/*
 * s3_xml: as much XML as S3's answers have: elements, text, the five named entities and numeric ones. The input comes from the network: every step is
 * checked against the end, names are cut at XML_NAME_MAX - 1, and what does not parse ends the walk.
 */
#include <stdlib.h>
#include <string.h>

#include "core/store/s3.h"

static const char *find(const char *p, const char *end, const char *what)
{
    return memmem(p, (size_t)(end - p), what, strlen(what));
}

static void put_code_point(struct buf *out, unsigned long c)
{
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        c = 0xfffd;
    if (c < 0x80) {
        buf_putc(out, (char)c);
    } else if (c < 0x800) {
        buf_putc(out, (char)(0xc0 | c >> 6));
        buf_putc(out, (char)(0x80 | (c & 0x3f)));
    } else {
        if (c < 0x10000) {
            buf_putc(out, (char)(0xe0 | c >> 12));
        } else {
            buf_putc(out, (char)(0xf0 | c >> 18));
            buf_putc(out, (char)(0x80 | (c >> 12 & 0x3f)));
        }
        buf_putc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_putc(out, (char)(0x80 | (c & 0x3f)));
    }
}

/* Decodes the entity at p ("&...;"): its length, or 0 when it is none. */
static size_t entity(const char *p, const char *end, struct buf *out)
{
    static const struct {
        const char *name;
        char c;
    } named[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++) {
        size_t n = strlen(named[i].name);
        if ((size_t)(end - p) >= n && memcmp(p, named[i].name, n) == 0) {
            buf_putc(out, named[i].c);
            return n;
        }
    }
    char digits[12];
    size_t n = (size_t)(end - p) < sizeof(digits) - 1 ? (size_t)(end - p) : sizeof(digits) - 1;
    memcpy(digits, p, n);
    digits[n] = '\0';
    char *semicolon = strchr(digits, ';'), *stop = digits;
    if (!semicolon || n < 4 || digits[1] != '#')
        return 0;
    bool hex = digits[2] == 'x';
    const char *first = digits + (hex ? 3 : 2);
    unsigned long c = strtoul(first, &stop, hex ? 16 : 10);
    if (stop != semicolon || stop == first)
        return 0;
    put_code_point(out, c);
    return (size_t)(semicolon - digits) + 1;
}

static void decode(const char *p, const char *end, struct buf *out)
{
    while (p < end) {
        size_t n = *p == '&' ? entity(p, end, out) : 0;
        if (n) {
            p += n;
        } else {
            buf_putc(out, *p++);
        }
    }
}

/* The local name of the tag at p. */
static void local_name(const char *p, const char *end, char name[XML_NAME_MAX])
{
    const char *stop = p;
    while (stop < end && !strchr(" \t\r\n/>", *stop))
        stop++;
    const char *colon = memchr(p, ':', (size_t)(stop - p));
    if (colon)
        p = colon + 1;
    size_t n = (size_t)(stop - p) < XML_NAME_MAX - 1 ? (size_t)(stop - p) : XML_NAME_MAX - 1;
    memcpy(name, p, n);
    name[n] = '\0';
}

/* End of the comment, CDATA, declaration or instruction at p, or NULL when p begins none; `end` when it never closes. */
static const char *skip(const char *p, const char *end)
{
    static const char *const kinds[][2] = {{"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}, {"<!", ">"}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        size_t n = strlen(kinds[i][0]);
        if ((size_t)(end - p) >= n && memcmp(p, kinds[i][0], n) == 0) {
            const char *close = find(p + n, end, kinds[i][1]);
            return close ? close + strlen(kinds[i][1]) : end;
        }
    }
    return NULL;
}

enum xml_event xml_next(struct xml *x, char name[XML_NAME_MAX], struct buf *text)
{
    const char *from = x->p;
    if (text)
        buf_reset(text);
    while (x->p < x->end) {
        const char *tag = memchr(x->p, '<', (size_t)(x->end - x->p));
        if (!tag)
            break;
        const char *after = skip(tag, x->end);
        if (after) {
            x->p = from = after;
            continue;
        }
        const char *close = memchr(tag, '>', (size_t)(x->end - tag));
        if (!close)
            break;
        bool closing = tag[1] == '/', empty = close[-1] == '/' && !closing;
        local_name(tag + 1 + closing, close, name);
        if (closing && text)
            decode(from, tag, text);
        x->p = close + 1;
        return closing || empty ? XML_CLOSE : XML_OPEN;
    }
    x->p = x->end;
    return XML_END;
}
