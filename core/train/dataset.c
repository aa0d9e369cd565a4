/*
 * Data sets: scanning folders, splitting, and handing out decoded pictures.
 *
 * Scanning is deterministic (directories are listed in sorted order), so an item's index means the same in every run
 * over the same folders; the loader and the checkpoints rely on it. Decoded pictures stay in memory until the cache
 * budget is used up; the rest is decoded every time it is asked for. A cached picture is never evicted: training visits
 * everything equally often, so any eviction order would only add work.
 */
#include "core/train/dataset.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/media/image.h"
#include "core/train/provenance.h"

#define SOURCE_FILE "source.json"
#define SOURCE_MAX_BYTES ((size_t)64 << 10)

struct dataset_cache {
    pthread_mutex_t lock;
    const struct picture **slots; /* per item, NULL when not kept */
    size_t n_slots, bytes, max_bytes;
};

int dataset_init(struct dataset *d, int max_side_px, size_t cache_bytes, struct err *e)
{
    *d = (struct dataset){.max_side_px = max_side_px, .cache = calloc(1, sizeof(struct dataset_cache))};
    if (!d->cache)
        return err_set(e, ERR_NOMEM, "data set: out of memory");
    pthread_mutex_init(&d->cache->lock, NULL);
    d->cache->max_bytes = cache_bytes;
    return 0;
}

void dataset_fini(struct dataset *d)
{
    struct dataset_cache *c = d->cache;
    for (size_t i = 0; i < d->n; i++) {
        free(d->items[i].image);
        free(d->items[i].mask);
    }
    if (c) {
        for (size_t i = 0; i < c->n_slots; i++)
            picture_free((struct picture *)c->slots[i]);
        pthread_mutex_destroy(&c->lock);
        free(c->slots);
        free(c);
    }
    free(d->items);
    free(d->groups);
    *d = (struct dataset){0};
}

/* ---- growing */

static int add_group(struct dataset *d, bool clip, struct err *e)
{
    if (d->n_groups == d->cap_groups) {
        size_t cap = d->cap_groups ? d->cap_groups * 2 : 256;
        struct dataset_group *g = realloc(d->groups, cap * sizeof(*g));
        if (!g)
            return err_set(e, ERR_NOMEM, "data set: out of memory");
        d->groups = g;
        d->cap_groups = cap;
    }
    d->groups[d->n_groups++] = (struct dataset_group){.first = d->n, .clip = clip};
    return 0;
}

/* Appends to the group added last. Takes copies of the paths. */
static int add_item(struct dataset *d, const char *image, const char *mask, double weight, int frame, bool pseudo,
                    struct err *e)
{
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 256;
        struct dataset_item *items = realloc(d->items, cap * sizeof(*items));
        if (!items)
            return err_set(e, ERR_NOMEM, "data set: out of memory");
        d->items = items;
        d->cap = cap;
    }
    struct dataset_item it = {.image = strdup(image),
                              .mask = strdup(mask),
                              .weight = weight,
                              .frame = frame,
                              .pseudo = pseudo,
                              .group = (int)d->n_groups - 1};
    if (!it.image || !it.mask) {
        free(it.image);
        free(it.mask);
        return err_set(e, ERR_NOMEM, "data set: out of memory");
    }
    d->items[d->n++] = it;
    d->groups[d->n_groups - 1].n++;
    return 0;
}

/* ---- scanning */

static bool is_picture_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && name[0] != '.' && (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg") || !strcasecmp(dot, ".png"));
}

static int compare_stems(const void *a, const void *b)
{
    const char *sa, *sb, *pa = *(char *const *)a, *pb = *(char *const *)b;
    size_t na = fs_stem(pa, &sa), nb = fs_stem(pb, &sb);
    int c = memcmp(sa, sb, na < nb ? na : nb);
    return c ? c : (na > nb) - (na < nb);
}

static int compare_natural(const void *a, const void *b)
{
    return fs_natural_cmp(*(char *const *)a, *(char *const *)b);
}

/* A pair of folders with equal stems. As photos, every pair is its own group; as a clip, all pairs are one. */
struct pair_scan {
    const char *images, *masks;
    double weight;
    bool clip;
    const struct provenance *labels; /* NULL: everything is manual */
};

static int add_pair(struct dataset *d, const struct pair_scan *s, const char *image, const char *mask, int frame,
                    struct err *e)
{
    char image_path[FS_PATH_MAX], mask_path[FS_PATH_MAX];
    double weight = s->weight;
    bool pseudo = false;
    if (s->labels) {
        const struct provenance_label *l = provenance_find(s->labels, image, frame);
        if (!l || l->weight <= 0)
            return 0;
        weight *= l->weight;
        pseudo = l->pseudo;
    }
    int rc = fs_join(image_path, s->images, image, e);
    if (!rc)
        rc = fs_join(mask_path, s->masks, mask, e);
    if (!rc && !s->clip)
        rc = add_group(d, false, e);
    return rc ? rc : add_item(d, image_path, mask_path, weight, frame, pseudo, e);
}

static int scan_pairs(struct dataset *d, const struct pair_scan *s, struct err *e)
{
    struct fs_list images = {0}, masks = {0};
    int rc = fs_list(s->images, &images, e);
    if (!rc)
        rc = fs_list(s->masks, &masks, e);
    if (!rc && s->clip)
        rc = add_group(d, true, e);
    if (!rc && images.n)
        qsort(images.names, images.n, sizeof(char *), compare_natural);
    if (!rc && masks.n)
        qsort(masks.names, masks.n, sizeof(char *), compare_stems);
    for (size_t i = 0, frame = 0; !rc && i < images.n; i++) {
        if (!is_picture_name(images.names[i]))
            continue;
        char **m = masks.n ? bsearch(&images.names[i], masks.names, masks.n, sizeof(char *), compare_stems) : NULL;
        if (m && is_picture_name(*m))
            rc = add_pair(d, s, images.names[i], *m, (int)frame, e);
        frame++;
    }
    if (!rc && s->clip && d->groups[d->n_groups - 1].n == 0)
        d->n_groups--;
    fs_list_free(&images);
    fs_list_free(&masks);
    return rc;
}

/* JPEGImages/SEQ + Annotations/SEQ; a level of resolution folders ("480p") in between is entered. */
static int scan_davis(struct dataset *d, const char *images, const char *masks, double weight, int depth, struct err *e)
{
    struct fs_list l = {0};
    int rc = fs_list(images, &l, e);
    for (size_t i = 0; !rc && i < l.n; i++) {
        char a[FS_PATH_MAX], b[FS_PATH_MAX];
        if (l.names[i][0] == '.')
            continue;
        rc = fs_join(a, images, l.names[i], e);
        if (!rc)
            rc = fs_join(b, masks, l.names[i], e);
        if (rc || !fs_is_dir(a) || !fs_is_dir(b))
            continue;
        size_t before = d->n;
        rc = scan_pairs(d, &(struct pair_scan){.images = a, .masks = b, .weight = weight, .clip = true}, e);
        if (!rc && d->n == before && depth == 0)
            rc = scan_davis(d, a, b, weight, 1, e);
    }
    fs_list_free(&l);
    return rc;
}

/* The folder of frames that `salient propagate` noted beside its masks. */
static int read_source(const char *dir, char frames[FS_PATH_MAX], struct err *e)
{
    char path[FS_PATH_MAX];
    struct buf text = BUF_INIT;
    int rc = fs_join(path, dir, SOURCE_FILE, e);
    if (!rc)
        rc = fs_read(path, SOURCE_MAX_BYTES, &text, e);
    if (rc)
        return rc;
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    const char *source = json_string_value(json_object_get(j, "frames"));
    if (!source || strlen(source) >= FS_PATH_MAX)
        rc = err_set(e, ERR_INVALID, "%s does not say where the frames are", path);
    else if (fs_exists(source) && !fs_is_dir(source))
        rc = err_set(e, ERR_UNSUPPORTED,
                     "%s: the frames are in the file %s; extract them into a folder and propagate from there", dir,
                     source);
    else if (!fs_is_dir(source))
        rc = err_set(e, ERR_NOTFOUND, "%s: the folder of frames %s is gone", dir, source);
    else
        snprintf(frames, FS_PATH_MAX, "%s", source);
    json_decref(j);
    buf_free(&text);
    return rc;
}

static int scan_labelled(struct dataset *d, const char *dir, const char *images, const char *masks, double weight,
                         struct err *e)
{
    char path[FS_PATH_MAX];
    struct provenance *labels = NULL;
    int rc = fs_join(path, dir, "labels.json", e);
    if (!rc)
        rc = provenance_read(path, &labels, e);
    if (!rc)
        rc = scan_pairs(
            d, &(struct pair_scan){.images = images, .masks = masks, .weight = weight, .clip = true, .labels = labels},
            e);
    provenance_free(labels);
    return rc;
}

static int scan_dir(struct dataset *d, const char *dir, double weight, int depth, struct err *e);

static int scan_collection(struct dataset *d, const char *dir, double weight, int depth, struct err *e)
{
    struct fs_list l = {0};
    int rc = fs_list(dir, &l, e);
    for (size_t i = 0; !rc && i < l.n; i++) {
        char sub[FS_PATH_MAX];
        if (l.names[i][0] == '.')
            continue;
        rc = fs_join(sub, dir, l.names[i], e);
        if (!rc && fs_is_dir(sub))
            rc = scan_dir(d, sub, weight, depth + 1, e);
    }
    fs_list_free(&l);
    return rc;
}

static int scan_dir(struct dataset *d, const char *dir, double weight, int depth, struct err *e)
{
    char images[FS_PATH_MAX], masks[FS_PATH_MAX], frames[FS_PATH_MAX], notes[FS_PATH_MAX], labels[FS_PATH_MAX],
        source[FS_PATH_MAX];
    int rc = fs_join(images, dir, "images", e);
    if (!rc)
        rc = fs_join(source, dir, SOURCE_FILE, e);
    if (!rc)
        rc = fs_join(masks, dir, "masks", e);
    if (!rc)
        rc = fs_join(frames, dir, "JPEGImages", e);
    if (!rc)
        rc = fs_join(notes, dir, "Annotations", e);
    if (!rc)
        rc = fs_join(labels, dir, "labels.json", e);
    if (rc)
        return rc;
    if (fs_exists(labels) && fs_is_dir(images) && fs_is_dir(masks))
        return scan_labelled(d, dir, images, masks, weight, e);
    if (fs_exists(labels) && fs_exists(source)) {
        rc = read_source(dir, frames, e);
        return rc ? rc : scan_labelled(d, dir, frames, dir, weight, e);
    }
    if (fs_is_dir(images) && fs_is_dir(masks))
        return scan_pairs(d, &(struct pair_scan){.images = images, .masks = masks, .weight = weight}, e);
    if (fs_is_dir(frames) && fs_is_dir(notes))
        return scan_davis(d, frames, notes, weight, 0, e);
    return depth < 2 ? scan_collection(d, dir, weight, depth, e) : 0;
}

int dataset_add(struct dataset *d, const char *dir, double weight, struct err *e)
{
    size_t before = d->n;
    if (!fs_is_dir(dir))
        return err_set(e, ERR_NOTFOUND, "%s: no such folder", dir);
    int rc = scan_dir(d, dir, weight, 0, e);
    if (!rc && d->n == before)
        rc = err_set(e, ERR_NOTFOUND,
                     "%s: no labelled picture; expected images/ and masks/ with equal file stems, or JPEGImages/SEQ/ "
                     "and Annotations/SEQ/",
                     dir);
    return rc;
}

/* ---- splitting */

static uint64_t fnv1a(uint64_t h, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001B3);
    return h;
}

/* A finaliser: FNV's high bits barely depend on the last bytes, and the split compares high bits. */
static double unit_hash(uint64_t seed, const char *text, size_t len)
{
    uint64_t h = fnv1a(seed ^ UINT64_C(0xCBF29CE484222325), text, len);
    h = (h ^ (h >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (double)((h ^ (h >> 31)) >> 11) * 0x1p-53;
}

static void hold_tail(struct dataset *d, const struct dataset_group *g, double fraction)
{
    size_t tail = (size_t)((double)g->n * fraction + 0.5);
    if (tail == 0 && g->n > 1)
        tail = 1;
    for (size_t k = g->n - tail; k < g->n; k++)
        d->items[g->first + k].held_out = true;
}

/* Every 1/fraction-th clip, at least one; with fewer than three clips the tail of each. */
static void split_clips(struct dataset *d, double fraction, size_t n_clips)
{
    size_t want = (size_t)((double)n_clips * fraction + 0.5), seen = 0;
    if (want == 0)
        want = 1;
    for (size_t i = 0; i < d->n_groups; i++) {
        const struct dataset_group *g = &d->groups[i];
        if (!g->clip)
            continue;
        if (n_clips < 3)
            hold_tail(d, g, fraction);
        else if ((seen + 1) * want / n_clips > seen * want / n_clips)
            for (size_t k = 0; k < g->n; k++)
                d->items[g->first + k].held_out = true;
        seen++;
    }
}

int dataset_split(struct dataset *d, double fraction, uint64_t seed, struct err *e)
{
    size_t n_clips = 0, n_photos = 0;
    if (fraction < 0 || fraction >= 1)
        return err_set(e, ERR_INVALID, "validation share %g is not in [0, 1)", fraction);
    for (size_t i = 0; i < d->n; i++)
        d->items[i].held_out = false;
    if (fraction == 0)
        return 0;
    for (size_t i = 0; i < d->n_groups; i++) {
        n_clips += d->groups[i].clip;
        n_photos += !d->groups[i].clip;
    }
    for (size_t i = 0; i < d->n_groups; i++) {
        struct dataset_item *it = &d->items[d->groups[i].first];
        const char *stem;
        size_t len = fs_stem(it->image, &stem);
        if (!d->groups[i].clip)
            it->held_out = unit_hash(seed, stem, len) < fraction;
    }
    /* Photos alone are enough to choose the epoch by; a lone clip among thousands of them is better used for training.
     */
    if (n_clips && n_clips * 20 >= n_photos)
        split_clips(d, fraction, n_clips);
    if (dataset_count(d, false) == 0)
        return err_set(e, ERR_INVALID, "the validation share %g leaves nothing to train on (%zu pictures)", fraction,
                       d->n);
    return 0;
}

size_t dataset_count(const struct dataset *d, bool held_out)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        n += d->items[i].held_out == held_out;
    return n;
}

uint64_t dataset_fingerprint(const struct dataset *d)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < d->n; i++) {
        const struct dataset_item *it = &d->items[i];
        const char *stem;
        size_t len = fs_stem(it->image, &stem);
        int64_t fields[3] = {fs_size(it->image), fs_size(it->mask), it->held_out};
        h = fnv1a(h, stem, len);
        h = fnv1a(h, fields, sizeof(fields));
        h = fnv1a(h, &it->weight, sizeof(it->weight));
    }
    return h;
}

/* ---- pictures */

/* Under the lock: makes the slot table as long as the item list, which only grows between runs. */
static bool slots_ready(struct dataset_cache *c, size_t n)
{
    if (c->n_slots >= n)
        return true;
    const struct picture **slots = realloc(c->slots, n * sizeof(*slots));
    if (!slots)
        return false;
    memset(slots + c->n_slots, 0, (n - c->n_slots) * sizeof(*slots));
    c->slots = slots;
    c->n_slots = n;
    return true;
}

int dataset_get(struct dataset *d, size_t item, const struct picture **out, struct err *e)
{
    struct dataset_cache *c = d->cache;
    struct picture *p = NULL;
    pthread_mutex_lock(&c->lock);
    bool ready = slots_ready(c, d->n);
    *out = ready ? c->slots[item] : NULL;
    pthread_mutex_unlock(&c->lock);
    if (*out)
        return 0;
    int rc = picture_load(d->items[item].image, d->items[item].mask, d->max_side_px, &p, e);
    if (rc)
        return rc;
    pthread_mutex_lock(&c->lock);
    if (ready && !c->slots[item] && c->bytes + picture_bytes(p) <= c->max_bytes) {
        c->slots[item] = p;
        c->bytes += picture_bytes(p);
    }
    pthread_mutex_unlock(&c->lock);
    *out = p;
    return 0;
}

void dataset_put(struct dataset *d, size_t item, const struct picture *p)
{
    struct dataset_cache *c = d->cache;
    if (!p)
        return;
    pthread_mutex_lock(&c->lock);
    bool kept = item < c->n_slots && c->slots[item] == p;
    pthread_mutex_unlock(&c->lock);
    if (!kept)
        picture_free((struct picture *)p);
}

/* From the files' headers, which is cheap enough to do for all of them. */
static int check_sizes(const struct dataset *d, struct err *e)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct dataset_item *it = &d->items[i];
        int size[2], mask[2];
        int rc = image_read_size(it->image, &size[0], &size[1], e);
        if (!rc)
            rc = image_read_size(it->mask, &mask[0], &mask[1], e);
        if (rc)
            return rc;
        if (size[0] != mask[0] || size[1] != mask[1])
            return err_set(e, ERR_INVALID, "%s is %dx%d but its mask %s is %dx%d", it->image, size[0], size[1],
                           it->mask, mask[0], mask[1]);
    }
    return 0;
}

int dataset_check(struct dataset *d, size_t n, struct err *e)
{
    int bad = check_sizes(d, e);
    if (bad)
        return bad;
    size_t step = n && d->n > n ? d->n / n : 1, seen = 0, empty = 0;
    for (size_t i = 0; i < d->n; i += step) {
        const struct picture *p;
        int rc = dataset_get(d, i, &p, e);
        if (rc)
            return rc;
        empty += p->area <= 0;
        seen++;
        dataset_put(d, i, p);
    }
    if (seen && empty == seen)
        return err_set(e, ERR_INVALID, "none of the %zu masks looked at has any foreground (the first is %s)", seen,
                       d->items[0].mask);
    return 0;
}
