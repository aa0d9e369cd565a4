/* Projects, keyframes and labels as JSON documents, and what their routes share. */
#ifndef API_ANNOTATION_H
#define API_ANNOTATION_H

#include <jansson.h>

#include "api/http.h"
#include "core/store/project.h"

json_t *counts_json(const struct project_counts *c);
json_t *project_json(struct store *s, const struct project_record *p); /* with its counts; NULL when out of memory */
json_t *project_clip_json(struct store *s, const char *project_id, const struct clip_record *c);
json_t *mask_json(const struct mask_record *m);
json_t *label_json(const struct label_record *l);

#define ANNOTATION_ETAG_SIZE 48
/* Entity tags, without quotes. */
const char *mask_etag(const struct mask_record *m, char out[ANNOTATION_ETAG_SIZE]);
const char *version_etag(int64_t version, char out[ANNOTATION_ETAG_SIZE]); /* of projects and labels */

/* The blob masks/<sha256> as the answer, with this entity tag. */
int send_mask(struct http_request *req, const char *sha256, const char *etag, int64_t modified_ms,
              struct http_response *resp, struct err *e);

#endif
