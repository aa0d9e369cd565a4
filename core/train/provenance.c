/*
 * labels.json reader. Unknown sources and states are errors, never guesses: a rejected label that slipped into training
 * as a manual one would be worse than a refused run.
 */
#include "core/train/provenance.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/fs.h"

#define LABELS_MAX_BYTES ((size_t)64 << 20)

struct provenance {
    struct provenance_label *labels;
    size_t n;
};

/* Weight of a label by source and state; negative when a word is unknown. */
static double label_weight(const char *source, const char *state, double confidence)
{
    if (state && !strcmp(state, "rejected"))
        return 0;
    if (state && strcmp(state, "accepted") != 0 && strcmp(state, "proposed") != 0)
        return -1;
    if (!strcmp(source, "manual"))
        return 1;
    if (!strcmp(source, "rejected") || !strcmp(source, "uncovered"))
        return 0;
    if (strcmp(source, "pseudo") != 0)
        return -1;
    if (state && !strcmp(state, "accepted"))
        return 1;
    return confidence < 0 ? 0 : confidence > 1 ? 1 : confidence;
}

static int read_label(const json_t *j, struct provenance_label *l)
{
    const json_t *frame = json_object_get(j, "frame"), *confidence = json_object_get(j, "confidence");
    const char *source = json_string_value(json_object_get(j, "source"));
    const char *state = json_string_value(json_object_get(j, "state"));
    *l = (struct provenance_label){.frame = -1};
    if (!source || (!json_is_integer(frame) && !json_is_string(frame)))
        return -1;
    if (json_is_integer(frame)) {
        l->frame = (int)json_integer_value(frame);
    } else {
        const char *stem;
        size_t len = fs_stem(json_string_value(frame), &stem);
        if (len >= sizeof(l->name))
            return -1;
        memcpy(l->name, stem, len);
    }
    l->weight = label_weight(source, state, json_is_number(confidence) ? json_number_value(confidence) : 0.5);
    l->pseudo = !strcmp(source, "pseudo");
    return l->weight < 0 ? -1 : 0;
}

int provenance_read(const char *path, struct provenance **out, struct err *e)
{
    struct buf text = BUF_INIT;
    json_error_t je;
    int rc = fs_read(path, LABELS_MAX_BYTES, &text, e);
    if (rc)
        return rc;
    json_t *root = json_loadb(text.data, text.len, 0, &je);
    buf_free(&text);
    if (!root)
        return err_set(e, ERR_INVALID, "%s:%d: %s", path, je.line, je.text);
    const json_t *list = json_is_array(root) ? root : json_object_get(root, "labels");
    struct provenance *p = calloc(1, sizeof(*p));
    if (!json_is_array(list))
        rc = err_set(e, ERR_INVALID, "%s: neither an array of labels nor an object with one", path);
    else if (!p || !(p->labels = calloc(json_array_size(list) + 1, sizeof(*p->labels))))
        rc = err_set(e, ERR_NOMEM, "%s: out of memory", path);
    for (size_t i = 0; !rc && i < json_array_size(list); i++)
        if (read_label(json_array_get(list, i), &p->labels[p->n++]))
            rc = err_set(e, ERR_INVALID, "%s: label %zu needs a frame, a known source and a known state", path, i);
    json_decref(root);
    if (rc) {
        provenance_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void provenance_free(struct provenance *p)
{
    if (!p)
        return;
    free(p->labels);
    free(p);
}

const struct provenance_label *provenance_find(const struct provenance *p, const char *file, int frame)
{
    const char *stem;
    size_t len = fs_stem(file, &stem);
    for (size_t i = 0; i < p->n; i++) {
        const struct provenance_label *l = &p->labels[i];
        if (l->name[0] ? strlen(l->name) == len && !memcmp(l->name, stem, len) : l->frame == frame)
            return l;
    }
    return NULL;
}
