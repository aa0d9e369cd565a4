/*
 * What a job made. Blobs of one epoch are written once and never change, so their entity tags are strong. While a job runs, maps
 * are served from the epoch that is running; once it has published, from the published one.
 */
#include "api/results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/context.h"
#include "api/lookup.h"
#include "api/negotiate.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/zipstream.h"
#include "core/media/image.h"

#define MAP_BYTES_MAX ((size_t)256 << 20)
#define JPEG_QUALITY 92

static int64_t served_epoch(const struct job *j)
{
    return j->output_epoch ? j->output_epoch : j->epoch;
}

/* ---- one blob, or a range of it ------------------------------------------------------------------------------------ */

struct blob_body {
    struct blob_reader *reader;
};

static ssize_t read_blob(void *arg, int64_t pos, char *out, size_t cap)
{
    (void)pos;
    struct blob_body *b = arg;
    int64_t n = blob_read(b->reader, out, cap, NULL);
    if (n > 0)
        return (ssize_t)n;
    return n == 0 ? HTTP_STREAM_END : HTTP_STREAM_BROKEN;
}

static void close_blob(void *arg)
{
    struct blob_body *b = arg;
    blob_reader_close(b->reader);
    free(b);
}

static int stream_blob(struct blobs *blobs, const char *key, int64_t offset, int64_t len, const char *type,
                       struct http_response *resp, struct err *e)
{
    struct blob_body *b = calloc(1, sizeof(*b));
    if (!b)
        return err_set(e, ERR_NOMEM, "no memory for the answer");
    int rc = blob_reader_open(blobs, key, offset, len, &b->reader, e);
    if (rc < 0) {
        free(b);
        return rc;
    }
    struct http_stream s = {.arg = b, .len = len, .read = read_blob, .close = close_blob};
    http_set_stream(resp, type, &s);
    return 0;
}

/* From the file itself (sendfile) when the blob is one, else through a reader. */
static int send_range(struct blobs *blobs, const char *key, int64_t offset, int64_t len, const char *type,
                      struct http_response *resp, struct err *e)
{
    char path[FS_PATH_MAX];
    int rc = blob_local_path(blobs, key, path, e);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return stream_blob(blobs, key, offset, len, type, resp, e);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "result");
    http_set_file(resp, type, fd, offset, len);
    return 0;
}

static int send_blob(struct http_request *req, const char *key, const char *type, struct http_response *resp,
                     struct err *e)
{
    struct blobs *blobs = req->api->cfg.blobs;
    struct blob_stat st;
    int64_t offset, len;
    int rc = blob_stat(blobs, key, &st, e);
    if (rc == 0)
        rc = negotiate_range(req, resp, st.etag, st.modified_ms, st.bytes, &offset, &len, e);
    if (rc == 0 && resp->status != 304)
        rc = send_range(blobs, key, offset, len, type, resp, e);
    return rc;
}

/* ---- maps ---------------------------------------------------------------------------------------------------------- */

static int missing(const struct job *j, struct http_response *resp, struct err *e, const char *what)
{
    if (strcmp(j->state, "queued") == 0 || strcmp(j->state, "running") == 0) {
        resp->retry_after_s = 1;
        return problem_set(resp, e, 404, "not_ready", "%s is not written yet: the job is %s", what, j->state);
    }
    return err_set(e, ERR_NOTFOUND, "the job has no such result");
}

static int send_jpeg(struct http_request *req, const char *key, struct http_response *resp, struct err *e)
{
    struct blobs *blobs = req->api->cfg.blobs;
    struct buf png = BUF_INIT, jpeg = BUF_INIT;
    struct frame *f = NULL;
    struct blob_stat st;
    int64_t offset, len;
    int rc = blob_stat(blobs, key, &st, e);
    if (rc == 0)
        rc = blob_get(blobs, key, MAP_BYTES_MAX, &png, e);
    if (rc == 0)
        rc = image_decode(png.data, png.len, IMAGE_GRAY, 0, &f, e);
    if (rc == 0)
        rc = image_encode_jpeg(f, JPEG_QUALITY, &jpeg, e);
    if (rc == 0) {
        char etag[BLOB_ETAG_SIZE + 8];
        snprintf(etag, sizeof(etag), "%s-jpg", st.etag);
        rc = negotiate_range(req, resp, etag, st.modified_ms, (int64_t)jpeg.len, &offset, &len, e);
    }
    if (rc == 0 && resp->status != 304) {
        memmove(jpeg.data, jpeg.data + offset, (size_t)len);
        jpeg.len = (size_t)len;
        rc = http_set_buf(resp, "image/jpeg", &jpeg, e);
    }
    frame_unref(f);
    buf_free(&png);
    buf_free(&jpeg);
    return rc;
}

int results_map(struct http_request *req, const struct job *j, int64_t n, bool jpeg, struct http_response *resp,
                struct err *e)
{
    char key[BLOB_KEY_MAX];
    snprintf(key, sizeof(key), "jobs/%s/%lld/maps/%05lld.png", j->id, (long long)served_epoch(j), (long long)n);
    http_set_header(resp, "Cache-Control", "private, no-cache");
    int rc = jpeg ? send_jpeg(req, key, resp, e) : send_blob(req, key, "image/png", resp, e);
    return rc == ERR_NOTFOUND ? missing(j, resp, e, "the map") : rc;
}

static int get_map(struct http_request *req, bool jpeg, struct http_response *resp, struct err *e)
{
    struct job j = {0};
    int64_t n;
    int rc = lookup_frame(req, &n, e);
    if (rc == 0)
        rc = lookup_job(req, resp, &j, e);
    if (rc == 0)
        rc = results_map(req, &j, n, jpeg, resp, e);
    job_fini(&j);
    return rc;
}

int route_get_map_png(struct http_request *req, struct http_response *resp, struct err *e)
{
    return get_map(req, false, resp, e);
}

int route_get_map_jpg(struct http_request *req, struct http_response *resp, struct err *e)
{
    return get_map(req, true, resp, e);
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

int results_zip(struct http_request *req, const struct job *j, struct http_response *resp, struct err *e)
{
    char prefix[BLOB_KEY_MAX], etag[BLOB_ETAG_SIZE];
    struct zipstream *z = NULL;
    int64_t offset, len;
    if (j->output_epoch == 0)
        return missing(j, resp, e, "the archive");
    snprintf(prefix, sizeof(prefix), "jobs/%s/%lld/", j->id, (long long)j->output_epoch);
    snprintf(etag, sizeof(etag), "%s-%lld-zip", j->id, (long long)j->output_epoch);
    int rc = zipstream_open(req->api->cfg.blobs, prefix, &z, e);
    if (rc == 0)
        rc = negotiate_range(req, resp, etag, j->finished_ms, zipstream_bytes(z), &offset, &len, e);
    if (rc < 0 || resp->status == 304) {
        zipstream_close(z);
        return rc;
    }
    zipstream_range(z, offset, len);
    struct http_stream s = {.arg = z, .len = len, .read = zipstream_read, .close = zipstream_close};
    http_set_stream(resp, "application/zip", &s);
    http_set_header(resp, "Content-Disposition", "attachment; filename=\"%s.zip\"", j->id);
    return 0;
}

int route_get_maps_zip(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job j;
    int rc = lookup_job(req, resp, &j, e);
    if (rc == 0)
        rc = results_zip(req, &j, resp, e);
    job_fini(&j);
    return rc;
}

int route_get_overlay(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job j;
    char key[BLOB_KEY_MAX];
    int rc = lookup_job(req, resp, &j, e);
    if (rc == 0) {
        snprintf(key, sizeof(key), "jobs/%s/%lld/overlay.mp4", j.id, (long long)served_epoch(&j));
        rc = send_blob(req, key, "video/mp4", resp, e);
        if (rc == ERR_NOTFOUND)
            rc = missing(&j, resp, e, "the overlay");
    }
    job_fini(&j);
    return rc;
}
