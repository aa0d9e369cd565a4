/* problem+json. The message of an internal failure (5xx by our own fault) goes to the log; the client gets the general
 * text. */
#include "api/problem.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"

int problem_status(int err_code)
{
    static const struct {
        int code, status;
    } map[] = {
        {ERR_INVALID, 400}, {ERR_NOTFOUND, 404}, {ERR_EXISTS, 409}, {ERR_CONFLICT, 409}, {ERR_UNSUPPORTED, 415},
        {ERR_CORRUPT, 422}, {ERR_LIMIT, 413},    {ERR_FULL, 507},   {ERR_CANCELED, 409}, {ERR_BUSY, 503},
        {ERR_NOMEM, 503},   {ERR_TIMEOUT, 503},  {ERR_GATE, 422},
    };
    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
        if (map[i].code == err_code)
            return map[i].status;
    return 500;
}

/* Problem codes follow the status where an error's own name would mislead a client. */
static const char *default_code(int err_code, int status)
{
    static const struct {
        int status;
        const char *code;
    } map[] = {{400, "malformed"},    {404, "not_found"},   {405, "method_not_allowed"}, {409, "conflict"},
               {413, "too_large"},    {415, "unsupported"}, {422, "unprocessable"},      {503, "unavailable"},
               {507, "storage_full"}, {500, "internal"}};
    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
        if (map[i].status == status)
            return map[i].code;
    return err_name(err_code);
}

static void log_failure(const struct http_request *req, int status, const struct err *e)
{
    if (status == 500 || status == 507)
        log_error(LOG_MSG("request failed"), LOG_STR("path", req->path ? req->path : ""), LOG_INT("status", status),
                  LOG_STR("error", err_name(e->code)), LOG_STR("detail", e->msg));
}

void problem_response(struct http_response *resp, const struct http_request *req, const struct err *e)
{
    int status = resp->problem_status ? resp->problem_status : problem_status(e->code);
    const char *code = resp->problem ? resp->problem : default_code(e->code, status);
    const char *detail = status == 500 ? "the service failed; its log has the reason under this request_id" : e->msg;
    log_failure(req, status, e);
    char type[80];
    snprintf(type, sizeof(type), "urn:salient:problem:%s", code);
    json_t *body = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "type", type, "title", http_status_text(status),
                             "status", status, "detail", detail, "code", code, "request_id", req->id);
    if (!body) /* the detail is not UTF-8 (it quotes the request) or memory is out */
        body = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", type, "title", http_status_text(status), "status", status,
                         "code", code, "request_id", req->id);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    http_set_memory(resp, "application/problem+json", text, text ? strlen(text) : 0);
    http_set_header(resp, "Cache-Control", "no-store");
    if (resp->retry_after_s > 0)
        http_set_header(resp, "Retry-After", "%d", resp->retry_after_s);
    resp->status = status;
}

int problem_set(struct http_response *resp, struct err *e, int status, const char *code, const char *fmt, ...)
{
    char msg[sizeof(e->msg)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    resp->problem_status = status;
    resp->problem = code;
    return err_set(e, status >= 500 ? ERR_INTERNAL : ERR_INVALID, "%s", msg);
}
