/* text: strings from outside (file names, messages of libraries) made fit for a database and for JSON: both want valid UTF-8. */
#include <stdlib.h>
#include <string.h>

#include "core/store/job.h"

/* Length of the valid UTF-8 sequence at s (RFC 3629: no overlong forms, surrogates or beyond U+10FFFF), 0 when there is
 * none. */
static int utf8_len(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    int n = s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void json_put_string(struct buf *b, const char *s)
{
    buf_putc(b, '"');
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        int n = utf8_len(p);
        if (n == 0) {
            buf_puts(b, "\\ufffd");
            p++;
        } else if (*p == '"' || *p == '\\') {
            buf_printf(b, "\\%c", *p++);
        } else if (*p < 0x20) {
            buf_printf(b, "\\u%04x", *p++);
        } else {
            buf_append(b, p, (size_t)n);
            p += n;
        }
    }
    buf_putc(b, '"');
}

static bool utf8_valid(const char *s)
{
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        int n = utf8_len(p);
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

int utf8_repair(const char *s, char **out)
{
    *out = NULL;
    if (utf8_valid(s))
        return 0;
    struct buf b = BUF_INIT;
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        int n = utf8_len(p);
        if (n)
            buf_append(&b, p, (size_t)n);
        else
            buf_puts(&b, "\xef\xbf\xbd");
        p += n ? n : 1;
    }
    *out = buf_steal(&b, NULL);
    return *out ? 1 : ERR_NOMEM;
}
