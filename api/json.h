/* JSON in and out. The only values api/ takes from or gives to jansson beyond its own calls. */
#ifndef API_JSON_H
#define API_JSON_H

#include <jansson.h>

#include "api/http.h"

/* Makes the response of `value`, whose reference it takes; NULL (out of memory) is an error. */
int json_response(struct http_response *resp, int status, json_t *value, struct err *e);

#endif
