/* Taking a clip in and putting a job in the queue, shared by every route that does either. */
#ifndef API_SUBMIT_H
#define API_SUBMIT_H

#include "api/http.h"
#include "core/media/clip.h"
#include "core/store/store.h"

/* Stores the uploaded field `clip`, or finds the one that parameter clip_id names. Broken media is refused here.
 * count: the number of frames must be exact. *existed: the clip was there before (may be NULL). Free out with clip_record_fini.
 * expires_ms: of a clip that is new, 0 keeps it. */
int submit_clip(struct http_request *req, bool count, int64_t expires_ms, struct clip_record *out, bool *existed,
                struct http_response *resp, struct err *e);
/* The clip of a job about to be submitted: a stored one, or an upload whose record is made together with the job (one commit, and no
 * clip of a job that was refused). Fill job_new.clip_id and .new_clip from it. */
struct submitted_clip {
    const char *id; /* NULL: new */
    const char *sha256;
    int64_t frames;              /* perhaps only the container's claim */
    const struct clip_new *made; /* NULL: stored */
    struct clip_record found;
    struct clip_new upload;
    struct clip_info info;
};
int submit_job_clip(struct http_request *req, struct submitted_clip *out, struct http_response *resp, struct err *e);
void submitted_clip_fini(struct submitted_clip *c);
/* The clip's file for the decoder: the blob itself, or a private copy that must be unlinked (*copy). */
int clip_file(struct api *api, const struct clip_record *clip, char path[FS_PATH_MAX], bool *copy, struct err *e);
/* Creates the job with the request's Idempotency-Key; `subject` is what must be the same when the key comes again. The queue
 * being full is 429. */
int submit_job(struct http_request *req, struct job_new *n, const char *subject, struct job *out,
               struct http_response *resp, struct err *e);
/* 202, Location and the job's document. */
int submit_accepted(struct http_request *req, const struct job *j, struct http_response *resp, struct err *e);
/* Honours "Prefer: wait". HTTP_LATER: the request is run again when the job has ended or the time is over; 0: do not wait (any
 * more). Call it on every run; req->later belongs to it. */
int submit_wait(struct http_request *req, const char *job_id, struct err *e);
/* The same for at most so long, whatever the client prefers. */
int submit_wait_for(struct http_request *req, const char *job_id, int seconds, struct err *e);
/* Id of the job that a request which waited is about; NULL on its first run. */
const char *submit_waited(const struct http_request *req);

#endif
