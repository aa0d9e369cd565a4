/* Body takers that need no file of their own, and media type comparison. */
#include "api/body.h"

#include <string.h>
#include <strings.h>

bool content_type_is(const char *header, const char *type)
{
    if (!header)
        return false;
    header += strspn(header, " \t");
    size_t n = strcspn(header, "; \t"), want = strlen(type);
    if (type[want - 1] == '/')
        return n > want && strncasecmp(header, type, want) == 0;
    return n == want && strncasecmp(header, type, n) == 0;
}

/* Routes without a body ignore one (RFC 9110, section 9.3.1): it is drained. */
const struct body_ops body_none = {.name = "none"};
