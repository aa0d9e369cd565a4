/* Projects, keyframes, labels and their audit, over every pair of database and blob backend. */
#include "tests/unit/store/blobs.h"

#include <pthread.h>

#include "core/store/project.h"

static struct store *s;
static struct blobs *b;
static char url[URL_MAX];
static struct project_record project;
static struct clip_record clip;
static const struct actor who = {"ann", "req-1"};

static struct clip_record add_clip(const char *text, int64_t frames)
{
    char path[FS_PATH_MAX];
    OK(blobs_temp(b, path, &err));
    OK(fs_write_atomic(path, text, strlen(text), &err));
    struct clip_record c = {.tenant = (char *)(uintptr_t) "", .frames = frames, .width = 8, .height = 4}, out;
    OK(clip_add(s, b, path, true, &c, &out, NULL, &err));
    return out;
}

static int setup(void **state)
{
    (void)state;
    s = open_fresh(NULL, url);
    b = blobs_fresh();
    OK(project_create(s, "", "dogs", "{\"labels_per_interval\":0}", &who, &project, &err));
    clip = add_clip("a clip", 30);
    OK(project_clip_add(s, project.id, clip.id, &who, NULL, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    project_record_fini(&project);
    clip_record_fini(&clip);
    store_close(s);
    blobs_close(b);
    return 0;
}

/* Puts `text` as the mask of a frame; returns the version that is there, or the error. */
static int64_t put(int64_t frame, const char *text, int64_t expected)
{
    struct mask_new n = {.project_id = project.id,
                         .clip_id = clip.id,
                         .frame = frame,
                         .png = text,
                         .len = strlen(text),
                         .objects = 1,
                         .expected = expected};
    struct mask_record m;
    int rc = mask_put(s, b, &n, &who, &m, &err);
    int64_t version = m.version;
    mask_record_fini(&m);
    if (rc == ERR_CONFLICT)
        return -version - 100; /* what is there instead */
    check_rc(rc, &err, "mask_put", __FILE__, __LINE__);
    return version;
}

static struct label_record label(int64_t frame)
{
    struct label_record l;
    OK(label_get(s, project.id, clip.id, frame, &l, &err));
    return l;
}

static void expect_label(int64_t frame, const char *source, const char *state, int stale)
{
    struct label_record l = label(frame);
    assert_string_equal(l.source, source);
    assert_string_equal(l.state, state);
    assert_int_equal(l.stale, stale);
    label_record_fini(&l);
}

static int64_t audits(const char *action)
{
    struct audit_list l;
    char subject[80];
    int64_t n = 0;
    snprintf(subject, sizeof(subject), "projects/%s", project.id);
    OK(audit_list(s, subject, NULL, 1000, &l, &err));
    for (size_t i = 0; i < l.n; i++)
        n += !action || strcmp(l.items[i].action, action) == 0;
    audit_list_fini(&l);
    return n;
}

static struct job_lease start_propagation(struct job *j)
{
    struct job_new n = {.kind = JOB_propagate, .clip_id = clip.id, .project_id = project.id};
    *j = make_job(s, &n);
    return claim_lease(s, "w", 60000);
}

/* Writes pseudo-labels for left+1 .. right-1 whose masks say `tag`; returns how many were written. */
static int64_t propagate(const struct job_lease *l, int64_t left, int64_t right, const char *tag)
{
    struct label_new labels[30];
    char sha[30][SHA256_HEX_SIZE];
    size_t n = 0;
    int64_t written, version[2] = {0, 0}, key[2] = {left, right};
    for (int i = 0; i < 2; i++) {
        struct mask_record m;
        if (key[i] >= 0 && mask_get(s, project.id, clip.id, key[i], 0, &m, &err) == 0) {
            version[i] = m.version;
            mask_record_fini(&m);
        }
    }
    for (int64_t f = left + 1; f < right; f++, n++) {
        char text[40];
        snprintf(text, sizeof(text), "%s %d", tag, (int)f);
        OK(mask_store(s, b, text, strlen(text), sha[n], &err));
        labels[n] = (struct label_new){.frame = f,
                                       .source = LABEL_PSEUDO,
                                       .confidence = 0.5 + (double)f / 100 + 1e-9 / 3,
                                       .left = left,
                                       .right = right,
                                       .left_version = version[0],
                                       .right_version = version[1],
                                       .sha256 = sha[n],
                                       .model = "fgplg-lite@1",
                                       .flow = "dis"};
    }
    OK(labels_replace_span(s, l, project.id, clip.id, labels, n, &written, &err));
    return written;
}

static void expect_blob(const char *text, int want)
{
    char sha[SHA256_HEX_SIZE], key[MASK_KEY_SIZE];
    sha256_hex(text, strlen(text), sha);
    mask_key(sha, key);
    assert_int_equal(blob_exists(b, key, &err), want);
}

static void sweep_now(void)
{
    clock_sleep_ms(3);
    OK(store_sweep(s, b, true, 0, NULL, &err));
}

/* ---- the tests -------------------------------------------------------------------------------------------------- */

static void test_settings(void **state)
{
    (void)state;
    struct project_record p;
    assert_int_equal(project.version, 1);
    OK(project_update(s, project.id, 1, "cats", "{}", &who, &p, &err));
    assert_int_equal(p.version, 2);
    assert_string_equal(p.name, "cats");
    assert_int_equal(p.clips, 1);
    project_record_fini(&p);
    assert_int_equal(project_update(s, project.id, 1, "late", "{}", &who, &p, &err), ERR_CONFLICT);
    assert_string_equal(p.name, "cats");
    project_record_fini(&p);
    OK(project_update(s, project.id, 0, "any", "{}", &who, &p, &err));
    project_record_fini(&p);
    assert_int_equal(project_get(s, clip.id, &p, &err), ERR_NOTFOUND);
    assert_int_equal(audits("project.update"), 2);

    struct project_record other;
    struct project_list l;
    OK(project_create(s, "t2", "theirs", NULL, &who, &other, &err));
    OK(project_list(s, "t2", NULL, 10, &l, &err));
    assert_int_equal(l.n, 1);
    assert_string_equal(l.items[0].id, other.id);
    project_list_fini(&l);
    OK(project_list(s, NULL, NULL, 1, &l, &err));
    assert_int_equal(l.n, 1);
    assert_non_null(l.next_cursor);
    project_list_fini(&l);
    project_record_fini(&other);
}

static void test_versions(void **state)
{
    (void)state;
    assert_int_equal(put(3, "one", 0), 1);
    assert_int_equal(put(3, "two", 1), 2);
    assert_int_equal(put(3, "lost", 1), -102); /* refused: it has version 2 */
    assert_int_equal(put(3, "lost", 0), -102);
    assert_int_equal(put(3, "two", 1), 2); /* asked again after a lost answer */
    assert_int_equal(put(3, "three", MASK_ANY_VERSION), 3);
    struct mask_record m;
    OK(mask_get(s, project.id, clip.id, 3, 1, &m, &err));
    char want[SHA256_HEX_SIZE];
    sha256_hex("one", 3, want);
    assert_string_equal(m.sha256, want);
    assert_string_equal(m.author, "ann");
    mask_record_fini(&m);
    struct mask_list l;
    OK(mask_versions(s, project.id, clip.id, 3, &l, &err));
    assert_int_equal(l.n, 3);
    mask_list_fini(&l);
    expect_label(3, "manual", "accepted", 0);
    assert_int_equal(audits("keyframe.put"), 3);
    sweep_now();
    expect_blob("one", 1); /* older versions keep their bytes */
    expect_blob("lost", 0);

    assert_int_equal(mask_delete(s, project.id, clip.id, 3, 2, &who, &err), ERR_CONFLICT);
    OK(mask_delete(s, project.id, clip.id, 3, 3, &who, &err));
    assert_int_equal(mask_delete(s, project.id, clip.id, 3, MASK_ANY_VERSION, &who, &err), ERR_NOTFOUND);
    assert_int_equal(mask_get(s, project.id, clip.id, 3, 0, &m, &err), ERR_NOTFOUND);
    OK(mask_get(s, project.id, clip.id, 3, 2, &m, &err));
    mask_record_fini(&m);
    expect_label(3, "uncovered", "proposed", 0);
    assert_int_equal(put(3, "again", 4), -100); /* a deletion is nothing to match */
    assert_int_equal(put(3, "again", 0), 5);
    assert_int_equal(put(29, "last", 0), 1);
    OK(mask_list(s, project.id, clip.id, &l, &err));
    assert_int_equal(l.n, 2);
    assert_int_equal(l.items[0].frame, 3);
    assert_int_equal(l.items[0].version, 5);
    assert_int_equal(l.items[1].frame, 29);
    mask_list_fini(&l);
}

static void test_bounds(void **state)
{
    (void)state;
    struct mask_new n = {.project_id = project.id, .clip_id = clip.id, .frame = 30, .png = "x", .len = 1};
    struct mask_record m;
    assert_int_equal(mask_put(s, b, &n, &who, &m, &err), ERR_NOTFOUND);
    n.frame = -1;
    assert_int_equal(mask_put(s, b, &n, &who, &m, &err), ERR_NOTFOUND);
    n.frame = 0;
    n.clip_id = project.id;
    assert_int_equal(mask_put(s, b, &n, &who, &m, &err), ERR_NOTFOUND);
    bool existed;
    OK(project_clip_add(s, project.id, clip.id, &who, &existed, &err));
    assert_true(existed);
    assert_int_equal(project_clip_add(s, project.id, project.id, &who, NULL, &err), ERR_NOTFOUND);
    assert_int_equal(project_clip_add(s, clip.id, clip.id, &who, NULL, &err), ERR_NOTFOUND);
    assert_int_equal(clip_delete(s, clip.id, &err), ERR_CONFLICT); /* the project holds it */
}

static void test_propagation(void **state)
{
    (void)state;
    struct job j, again;
    put(0, "left", 0);
    put(10, "right", 0);
    assert_int_equal(project_propagation(s, project.id, clip.id, &again, &err), 0);
    struct job_lease l = start_propagation(&j);
    assert_int_equal(project_propagation(s, project.id, clip.id, &again, &err), 1);
    assert_string_equal(again.id, j.id);
    job_fini(&again);
    assert_int_equal(propagate(&l, 0, 10, "p"), 9);
    assert_int_equal(propagate(&l, 0, 10, "p"), 0); /* nothing new */
    struct label_record r = label(5);
    assert_string_equal(r.job_id, j.id);
    assert_string_equal(r.model, "fgplg-lite@1");
    assert_true(r.confidence == 0.55);
    assert_int_equal(r.right_version, 1);
    label_record_fini(&r);

    /* Reviewed labels and keyframes stay; the rest is proposed anew. */
    OK(label_set_state(s, project.id, clip.id, 2, 1, LABEL_STATE_ACCEPTED, &who, &r, &err));
    assert_int_equal(r.version, 2);
    label_record_fini(&r);
    assert_int_equal(label_set_state(s, project.id, clip.id, 2, 1, LABEL_STATE_REJECTED, &who, &r, &err), ERR_BUSY);
    assert_int_equal(r.version, 2);
    label_record_fini(&r);
    OK(label_set_state(s, project.id, clip.id, 3, 0, LABEL_STATE_REJECTED, &who, &r, &err));
    label_record_fini(&r);
    assert_int_equal(label_set_state(s, project.id, clip.id, 0, 0, LABEL_STATE_REJECTED, &who, &r, &err), ERR_CONFLICT);
    assert_int_equal(label_set_state(s, project.id, clip.id, 20, 0, LABEL_STATE_REJECTED, &who, &r, &err),
                     ERR_NOTFOUND);
    assert_int_equal(propagate(&l, 0, 10, "q"), 7);

    /* A correction becomes a keyframe; its neighbours are stale, accepted ones stay, rejected ones get a new proposal. */
    assert_int_equal(put(6, "corrected", 0), 1);
    struct mask_record m;
    OK(mask_get(s, project.id, clip.id, 6, 0, &m, &err));
    assert_string_equal(m.origin, "correction");
    mask_record_fini(&m);
    expect_label(6, "manual", "accepted", 0);
    expect_label(5, "pseudo", "proposed", 1);
    expect_label(2, "pseudo", "accepted", 1);
    assert_int_equal(propagate(&l, 0, 6, "r"), 4);
    assert_int_equal(propagate(&l, 6, 10, "r"), 3);
    expect_label(2, "pseudo", "accepted", 1);
    expect_label(3, "pseudo", "proposed", 0);

    /* A changed keyframe makes what came from it replaceable, whatever its state. */
    assert_int_equal(put(0, "left, better", 1), 2);
    expect_label(2, "pseudo", "accepted", 2);
    expect_label(7, "pseudo", "proposed", 0);
    assert_int_equal(propagate(&l, 0, 6, "s"), 5);
    expect_label(2, "pseudo", "proposed", 0);
    job_fini(&j);
}

static void test_review(void **state)
{
    (void)state;
    struct job j;
    struct label_record r;
    int64_t n;
    put(0, "left", 0);
    put(20, "right", 0);
    struct job_lease l = start_propagation(&j);
    propagate(&l, 0, 20, "p");
    OK(label_set_state(s, project.id, clip.id, 19, 0, LABEL_STATE_REJECTED, &who, &r, &err));
    label_record_fini(&r);
    OK(labels_accept(s, project.id, clip.id, 0.6, 0, 29, &who, &n, &err));
    assert_int_equal(n, 9); /* 10..18 */
    OK(labels_accept(s, project.id, clip.id, 0, 2, 3, &who, &n, &err));
    assert_int_equal(n, 2);
    assert_int_equal(audits("label.accept"), 11);
    struct project_counts c;
    OK(project_count(s, project.id, clip.id, &c, &err));
    assert_int_equal(c.keyframes, 2);
    assert_int_equal(c.labels, 19);
    assert_int_equal(c.accepted, 11);
    assert_int_equal(c.rejected, 1);
    assert_int_equal(c.stale, 0);
    struct label_list list;
    struct label_filter f = {.states = 1u << LABEL_STATE_ACCEPTED, .masks_only = true};
    OK(label_list(s, project.id, &f, &list, &err));
    assert_int_equal(list.n, 13);
    assert_int_equal(list.items[0].frame, 0);
    label_list_fini(&list);

    OK(mask_delete(s, project.id, clip.id, 20, 1, &who, &err));
    expect_label(15, "pseudo", "proposed", 2);
    expect_label(19, "pseudo", "proposed", 2);
    OK(project_count(s, project.id, NULL, &c, &err));
    assert_int_equal(c.accepted, 0);
    assert_int_equal(c.stale, 19);
    OK(labels_accept(s, project.id, clip.id, 0, 0, 29, &who, &n, &err));
    assert_int_equal(n, 0); /* stale ones want a propagation first */
    job_fini(&j);
}

static void test_lease(void **state)
{
    (void)state;
    struct job j;
    put(0, "left", 0);
    struct job_lease l = start_propagation(&j), old = l;
    OK(job_release(s, &l, &err));
    l = claim_lease(s, "w2", 60000);
    struct label_new n = {.frame = 1, .source = LABEL_UNCOVERED, .left = -1, .right = -1};
    assert_int_equal(labels_replace_span(s, &old, project.id, clip.id, &n, 1, NULL, &err), ERR_LEASE_LOST);
    OK(labels_replace_span(s, &l, project.id, clip.id, &n, 1, NULL, &err));
    n.frame = 30;
    assert_int_equal(labels_replace_span(s, &l, project.id, clip.id, &n, 1, NULL, &err), ERR_NOTFOUND);
    OK(project_clip_remove(s, project.id, clip.id, &who, &err));
    n.frame = 1;
    assert_int_equal(labels_replace_span(s, &l, project.id, clip.id, &n, 1, NULL, &err), ERR_CANCELED);
    expect_state(s, j.id, "canceled");
    job_fini(&j);
}

static void test_delete(void **state)
{
    (void)state;
    struct job j;
    put(0, "only here", 0);
    struct job_lease l = start_propagation(&j);
    propagate(&l, 0, 3, "gone");
    propagate(&l, 0, 3, "newer");
    sweep_now();
    expect_blob("gone 1", 0);
    expect_blob("newer 1", 1);
    OK(project_delete(s, project.id, &who, &err));
    expect_state(s, j.id, "canceled");
    sweep_now();
    expect_blob("only here", 0);
    expect_blob("newer 1", 0);
    OK(clip_delete(s, clip.id, &err));
    assert_int_equal(project_delete(s, project.id, &who, &err), ERR_NOTFOUND);
    assert_int_equal(audits("project.delete"), 1);
    job_fini(&j);
}

static void test_import(void **state)
{
    (void)state;
    char a[SHA256_HEX_SIZE], c[SHA256_HEX_SIZE];
    OK(mask_store(s, b, "a", 1, a, &err));
    OK(mask_store(s, b, "c", 1, c, &err));
    struct clip_record other = add_clip("another clip", 5);
    const char *const clips[] = {other.id};
    struct import_item items[] = {
        {.clip_id = clip.id,
         .label = {.frame = 4, .source = LABEL_PSEUDO, .confidence = 0.7, .left = 2, .right = -1, .sha256 = c},
         .state = LABEL_STATE_ACCEPTED},
        {.clip_id = clip.id, .label = {.frame = 2, .source = LABEL_MANUAL, .sha256 = a}, .objects = 1},
        {.clip_id = other.id, .label = {.frame = 5, .source = LABEL_MANUAL, .sha256 = a}, .objects = 1},
    };
    assert_int_equal(project_import(s, project.id, clips, 1, items, 3, &who, &err), ERR_NOTFOUND); /* no frame 5 */
    struct mask_list l;
    OK(mask_list(s, project.id, clip.id, &l, &err));
    assert_int_equal(l.n, 0); /* nothing of it */
    items[2].label.frame = 4;
    OK(project_import(s, project.id, clips, 1, items, 3, &who, &err));
    OK(project_import(s, project.id, clips, 1, items, 3, &who, &err)); /* again: the same */
    expect_label(4, "pseudo", "accepted", 0);
    expect_label(2, "manual", "accepted", 0);
    struct label_record r = label(4);
    assert_int_equal(r.left_frame, 2);
    assert_int_equal(r.left_version, 1);
    label_record_fini(&r);
    assert_int_equal(audits("keyframe.put"), 2);
    items[1].label.sha256 = c;
    assert_int_equal(project_import(s, project.id, clips, 1, items, 3, &who, &err), ERR_CONFLICT);
    clip_record_fini(&other);
}

/* Of clients that all expect the same version exactly one wins, each time. */
#define WRITERS 8
#define ROUNDS 5
static int64_t outcome[WRITERS];

static void *one_writer(void *arg)
{
    long i = (long)(intptr_t)arg;
    char text[20];
    struct err own = {0};
    struct mask_record m;
    snprintf(text, sizeof(text), "writer %ld", i);
    struct mask_new n = {.project_id = project.id,
                         .clip_id = clip.id,
                         .frame = 1,
                         .png = text,
                         .len = strlen(text),
                         .objects = 1,
                         .expected = outcome[i]};
    outcome[i] = mask_put(s, b, &n, &who, &m, &own);
    mask_record_fini(&m);
    return NULL;
}

static void test_race(void **state)
{
    (void)state;
    int64_t version = put(1, "first", 0);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t t[WRITERS];
        for (long i = 0; i < WRITERS; i++) {
            outcome[i] = version;
            assert_int_equal(pthread_create(&t[i], NULL, one_writer, (void *)(intptr_t)i), 0);
        }
        int won = 0;
        for (int i = 0; i < WRITERS; i++) {
            pthread_join(t[i], NULL);
            assert_true(outcome[i] == 0 || outcome[i] == ERR_CONFLICT);
            won += outcome[i] == 0;
        }
        assert_in_range(won, 1, 2); /* two when the last winner's bytes are sent again */
        version = put(1, round % 2 ? "even" : "odd", MASK_ANY_VERSION);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_settings),    T(test_versions), T(test_bounds),
                                       T(test_propagation), T(test_review),   T(test_lease),
                                       T(test_delete),      T(test_import),   T(test_race)};
    int failed = 0;
    temp_make();
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
        backend = &backends[i];
        blob_backend = &blob_backends[0];
        if (!backend->available())
            continue;
        failed += cmocka_run_group_tests_name(backend->name, tests, NULL, NULL);
        backend->stop();
    }
    temp_remove();
    return failed;
}
