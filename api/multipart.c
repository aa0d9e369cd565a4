/*
 * Incremental multipart/form-data.
 *
 * The delimiter is CRLF "--" boundary; the stream is treated as if it began with a CRLF, so that the first one matches too. While
 * data is scanned, `matched` bytes of a possible delimiter are held back; they are known bytes, so nothing needs to be stored.
 * A delimiter begins with CR, and CR stands nowhere else in it, so a failed match can only begin again at the byte that broke it.
 */
#include "api/multipart.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BOUNDARY_MAX 70 /* RFC 2046, section 5.1.1 */

enum state {
    PREAMBLE,  /* before the first delimiter */
    DELIMITER, /* after a delimiter: "--" ends, white space and CRLF begin a part */
    HEADERS,   /* up to an empty line */
    DATA,      /* of a part */
    EPILOGUE,  /* after the last delimiter: ignored */
};

struct multipart {
    struct multipart_handler h;
    enum state state;
    char delimiter[BOUNDARY_MAX + 5]; /* CR LF - - boundary */
    size_t delimiter_len, matched;
    char headers[MULTIPART_HEADERS_MAX + 1];
    size_t nheaders;
    char tail[3]; /* what followed a delimiter */
    size_t ntail;
    int parts;
};

/* Finds `name=` among the parameters of a header value; the value, unquoted, goes to out. Cut parameters are errors. */
static bool find_parameter(const char *header, const char *name, char *out, size_t out_size)
{
    size_t name_len = strlen(name);
    for (const char *s = strchr(header, ';'); s;) {
        s++;
        s += strspn(s, " \t");
        bool hit = strncasecmp(s, name, name_len) == 0 && s[name_len] == '=';
        s += strcspn(s, "=;");
        if (*s != '=') {
            s = *s ? s : NULL;
            continue;
        }
        s++;
        bool quoted = *s == '"';
        s += quoted;
        size_t n = 0;
        while (*s && (quoted ? *s != '"' : !strchr("; \t", *s))) {
            if (quoted && *s == '\\' && (s[1] == '"' || s[1] == '\\'))
                s++;
            if (hit && n + 1 >= out_size)
                return false;
            if (hit)
                out[n++] = *s;
            s++;
        }
        if (hit) {
            out[n] = '\0';
            return true;
        }
        s = strchr(s, ';');
    }
    return false;
}

int multipart_new(const char *content_type, const struct multipart_handler *h, struct multipart **out, struct err *e)
{
    char boundary[BOUNDARY_MAX + 1];
    if (!find_parameter(content_type, "boundary", boundary, sizeof(boundary)) || boundary[0] == '\0')
        return err_set(e, ERR_INVALID, "multipart/form-data without a usable boundary parameter");
    struct multipart *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(e, ERR_NOMEM, "no memory for the multipart parser");
    m->h = *h;
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary, strlen(boundary) + 1);
    m->delimiter_len = strlen(m->delimiter);
    m->matched = 2;
    *out = m;
    return 0;
}

/* The value of header `name` in the block of NUL-separated lines, or NULL. */
static const char *find_header(const struct multipart *m, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = m->headers; line < m->headers + m->nheaders; line += strlen(line) + 1)
        if (strncasecmp(line, name, n) == 0 && line[n] == ':')
            return line + n + 1 + strspn(line + n + 1, " \t");
    return NULL;
}

static int begin_part(struct multipart *m, struct err *e)
{
    char name[256], filename[1024];
    if (++m->parts > MULTIPART_PARTS_MAX)
        return err_set(e, ERR_INVALID, "more than %d multipart fields", MULTIPART_PARTS_MAX);
    const char *disposition = find_header(m, "Content-Disposition");
    if (!disposition || strncasecmp(disposition, "form-data", 9) != 0 ||
        !find_parameter(disposition, "name", name, sizeof(name)))
        return err_set(e, ERR_INVALID, "multipart field %d has no form-data name", m->parts);
    struct multipart_part part = {.name = name, .content_type = find_header(m, "Content-Type")};
    if (find_parameter(disposition, "filename", filename, sizeof(filename)))
        part.filename = filename;
    return m->h.begin(m->h.arg, &part, e);
}

/* One byte of a header block; the block becomes NUL-separated lines. */
static int feed_header(struct multipart *m, char c, struct err *e)
{
    if (c == '\0' || m->nheaders == MULTIPART_HEADERS_MAX)
        return err_set(e, ERR_INVALID, "the headers of multipart field %d are malformed or too long", m->parts + 1);
    if (c == '\n') {
        if (m->nheaders && m->headers[m->nheaders - 1] == '\r')
            m->nheaders--;
        bool empty = m->nheaders == 0 || m->headers[m->nheaders - 1] == '\0';
        m->headers[m->nheaders++] = '\0';
        if (!empty)
            return 0;
        m->state = DATA;
        m->matched = 0;
        return begin_part(m, e);
    }
    m->headers[m->nheaders++] = c;
    return 0;
}

/* One byte after a delimiter. */
static int feed_delimiter(struct multipart *m, char c, struct err *e)
{
    if (m->ntail == 0 && (c == ' ' || c == '\t'))
        return 0;
    m->tail[m->ntail++] = c;
    if (m->ntail < 2)
        return 0;
    if (memcmp(m->tail, "--", 2) == 0)
        m->state = EPILOGUE;
    else if (memcmp(m->tail, "\r\n", 2) == 0)
        m->state = HEADERS;
    else
        return err_set(e, ERR_INVALID, "a multipart boundary is followed by neither a line break nor '--'");
    m->nheaders = 0;
    return 0;
}

static int emit(struct multipart *m, const char *data, size_t len, struct err *e)
{
    return m->state == DATA && len > 0 ? m->h.data(m->h.arg, data, len, e) : 0;
}

/* Scans data (or the preamble) up to a delimiter; *used tells how much was taken. */
static int scan(struct multipart *m, const char *data, size_t len, size_t *used, struct err *e)
{
    size_t plain = 0, i = 0; /* [plain, i) is data for certain, unless held back in `matched` */
    int rc = 0;
    while (i < len && rc == 0) {
        if (m->matched == 0) {
            const char *cr = memchr(data + i, '\r', len - i);
            i = cr ? (size_t)(cr - data) + 1 : len;
            rc = emit(m, data + plain, i - plain - (cr != NULL), e);
            plain = i;
            m->matched = cr != NULL;
        } else if (data[i] == m->delimiter[m->matched]) {
            plain = ++i;
            if (++m->matched == m->delimiter_len) {
                if (m->state == DATA)
                    rc = m->h.end(m->h.arg, e);
                m->state = DELIMITER;
                m->ntail = 0;
                break;
            }
        } else {
            rc = emit(m, m->delimiter, m->matched, e);
            m->matched = 0;
            plain = i;
        }
    }
    *used = i;
    return rc;
}

int multipart_feed(struct multipart *m, const char *data, size_t len, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < len && rc == 0 && m->state != EPILOGUE;) {
        size_t used = 1;
        if (m->state == DELIMITER)
            rc = feed_delimiter(m, data[i], e);
        else if (m->state == HEADERS)
            rc = feed_header(m, data[i], e);
        else
            rc = scan(m, data + i, len - i, &used, e);
        i += used;
    }
    return rc;
}

int multipart_finish(struct multipart *m, struct err *e)
{
    if (m->state != EPILOGUE)
        return err_set(e, ERR_INVALID, "the multipart body ends before its closing boundary");
    return 0;
}

void multipart_free(struct multipart *m)
{
    free(m);
}
