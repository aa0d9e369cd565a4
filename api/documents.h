/* Records of the store as the JSON documents of the contract. */
#ifndef API_DOCUMENTS_H
#define API_DOCUMENTS_H

#include <jansson.h>

#include "core/store/store.h"

json_t *time_json(int64_t ms);                          /* RFC 3339, or null for 0 */
json_t *clip_json(const struct clip_record *c);         /* NULL when out of memory */
json_t *job_json(struct store *s, const struct job *j); /* with its place in the queue while it waits */

#endif
