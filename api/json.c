/* JSON in and out. */
#include "api/json.h"

#include <string.h>

int json_response(struct http_response *resp, int status, json_t *value, struct err *e)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (!text)
        return err_set(e, ERR_NOMEM, "no memory for the answer");
    http_set_memory(resp, "application/json", text, strlen(text));
    resp->status = status;
    return 0;
}
