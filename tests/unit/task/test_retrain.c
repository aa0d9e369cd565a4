/* The snapshot of a project and its split: what trains, what measures, what is left alone; the same content, the same
 * bytes. Options. Projects that train by themselves. */
#include "tests/unit/store/harness.h"

#include "core/store/registry.h"
#include "core/task/retrain.h"

static struct store *s;
static struct blobs *b;
static char url[URL_MAX];
static struct project_record project;
static const struct actor me = {"me", NULL};

static int setup(void **state)
{
    (void)state;
    static int n;
    static const struct blobs_opts opts = {.min_free_bytes = 1};
    char dir[URL_MAX];
    s = open_fresh(NULL, url);
    snprintf(dir, sizeof(dir), "%s/blobs-%d", temp_root, n++);
    OK(blobs_open(dir, &opts, &b, &err));
    OK(project_create(s, "", "p", "{\"retrain\":{\"mode\":\"auto\",\"min_new_labels\":4,\"holdout\":0.3}}", &me,
                      &project, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    project_record_fini(&project);
    store_close(s);
    blobs_close(b);
    return 0;
}

/* A clip whose bytes are `text`, in the project; its id in a static buffer. */
static const char *add_clip(const char *text)
{
    static char ids[8][ID_SIZE];
    static int at;
    char path[FS_PATH_MAX], *id = ids[at++ % 8];
    struct clip_record c = {.frames = 50, .width = 8, .height = 8}, out;
    OK(blobs_temp(b, path, &err));
    OK(fs_write_atomic(path, text, strlen(text), &err));
    OK(clip_add(s, b, path, true, &c, &out, NULL, &err));
    OK(project_clip_add(s, project.id, out.id, &me, NULL, &err));
    snprintf(id, ID_SIZE, "%s", out.id);
    clip_record_fini(&out);
    return id;
}

static void mask(const char *clip, int64_t frame)
{
    struct mask_record m;
    struct mask_new n = {.project_id = project.id,
                         .clip_id = clip,
                         .frame = frame,
                         .png = "mask",
                         .len = 4,
                         .expected = MASK_ANY_VERSION};
    OK(mask_put(s, b, &n, &me, &m, &err));
    mask_record_fini(&m);
}

static void pseudo(const char *clip, const int64_t *frames, const double *confidence, size_t n, int64_t left,
                   int64_t right)
{
    struct job_new jn = {.kind = JOB_propagate, .project_id = project.id, .clip_id = clip};
    struct job j = make_job(s, &jn);
    struct job_lease l = claim_lease(s, "w", 1000);
    char sha256[SHA256_HEX_SIZE];
    OK(mask_store(s, b, "pseudo", 6, sha256, &err));
    for (size_t i = 0; i < n; i++) {
        struct label_new label = {.frame = frames[i],
                                  .source = LABEL_PSEUDO,
                                  .confidence = confidence[i],
                                  .left = left,
                                  .right = right,
                                  .left_version = 1,
                                  .right_version = 1,
                                  .sha256 = sha256};
        OK(labels_replace_span(s, &l, project.id, clip, &label, 1, NULL, &err));
    }
    OK(job_publish(s, &l, "{}", &err));
    job_fini(&j);
}

static struct retrain_opts defaults(void)
{
    struct retrain_opts o;
    OK(retrain_parse(NULL, &o, &err));
    return o;
}

static struct retrain_set take(struct buf *manifest)
{
    struct retrain_opts o = defaults();
    struct retrain_set set;
    OK(retrain_snapshot(s, project.id, &o, manifest, &err));
    OK(retrain_load(manifest, &set, &err));
    return set;
}

static void test_options(void **state)
{
    (void)state;
    struct retrain_opts o = defaults();
    assert_true(o.holdout == 0.2 && o.steps > 0 && o.min[0] == '\0');
    static const struct {
        const char *json;
        int rc;
    } cases[] = {
        {"{\"lr\": 0.001, \"steps\": 3, \"min\": {\"s_measure\": 0.5, \"mae\": 0.1}}", 0},
        {"{\"lr\": \"high\"}", ERR_INVALID},
        {"{\"lr\": -1}", ERR_INVALID},
        {"{\"steps\": 2.5}", ERR_INVALID},
        {"{\"size\": 100}", ERR_INVALID},
        {"{\"min\": [1]}", ERR_INVALID},
        {"{\"min\": {\"nonsense\": 1}}", ERR_INVALID},
        {"{\"max_drop\": {\"mae\": \"x\"}}", ERR_INVALID},
        {"{\"max_drop\": {}}", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *doc = json_loads(cases[i].json, 0, NULL);
        assert_int_equal(retrain_parse(doc, &o, &err), cases[i].rc);
        json_decref(doc);
    }
    assert_string_equal(o.max_drop, "");
    json_t *doc = json_loads(cases[0].json, 0, NULL);
    OK(retrain_parse(doc, &o, &err));
    assert_string_equal(o.min, "s_measure=0.5,mae=0.1");
    json_decref(doc);
}

static void test_split_by_clip(void **state)
{
    (void)state;
    static const int64_t frames[] = {3, 4, 5};
    static const double confidence[] = {0.9, 0.3, 0.7};
    const char *texts[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++) {
        const char *clip = add_clip(texts[i]);
        mask(clip, 0);
        mask(clip, 10);
        pseudo(clip, frames, confidence, 3, 0, 10);
        struct label_record accepted;
        OK(label_set_state(s, project.id, clip, 5, 0, LABEL_STATE_ACCEPTED, &me, &accepted, &err));
        label_record_fini(&accepted);
    }
    struct buf one = BUF_INIT, two = BUF_INIT;
    struct retrain_set set = take(&one), again = take(&two);
    assert_int_equal(one.len, two.len);
    assert_memory_equal(one.data, two.data, one.len);
    assert_true(set.by_clip);
    assert_int_equal(set.n, 4);
    int held = 0;
    for (size_t i = 0; i < set.n; i++) {
        const struct retrain_clip *c = &set.clips[i];
        assert_int_equal(c->n, 4); /* 0, 3, 5, 10: nobody trusts frame 4 */
        if (c->n_held) {
            held++;
            assert_int_equal(c->n_held, 3); /* keyframes and the accepted one; frame 3 is left alone */
            assert_int_equal(c->n_train, 0);
        } else {
            assert_int_equal(c->n_train, 4);
        }
    }
    assert_int_equal(held, 1);
    retrain_set_free(&again);
    retrain_set_free(&set);
    buf_free(&one);
    buf_free(&two);
}

static void test_split_by_interval(void **state)
{
    (void)state;
    static const int64_t frames[] = {5, 15, 35};
    static const double confidence[] = {0.9, 0.9, 0.9};
    const char *clip = add_clip("a");
    for (int64_t f = 0; f <= 40; f += 10)
        mask(clip, f);
    pseudo(clip, &frames[0], &confidence[0], 1, 0, 10);
    pseudo(clip, &frames[2], &confidence[2], 1, 30, 40);
    struct buf m = BUF_INIT;
    struct retrain_set set = take(&m);
    assert_false(set.by_clip);
    assert_int_equal(set.n_held, 1); /* frame 40 */
    const struct retrain_clip *c = &set.clips[0];
    for (size_t i = 0; i < c->n; i++) {
        int part = c->labels[i].frame == 40   ? RETRAIN_HELD_OUT
                   : c->labels[i].frame == 35 ? RETRAIN_UNUSED /* it has seen frame 40 */
                                              : RETRAIN_TRAIN;
        assert_int_equal(c->labels[i].part, part);
    }
    retrain_set_free(&set);
    buf_free(&m);
}

static void test_too_little(void **state)
{
    (void)state;
    struct retrain_opts o = defaults();
    struct buf m = BUF_INIT;
    assert_int_equal(retrain_snapshot(s, project.id, &o, &m, &err), ERR_INVALID);
    mask(add_clip("a"), 0);
    buf_reset(&m);
    assert_int_equal(retrain_snapshot(s, project.id, &o, &m, &err), ERR_INVALID);
    buf_reset(&m);
    buf_puts(&m, "{\"clips\":[{}],\"held_out\":\"clips\"}");
    struct retrain_set set;
    assert_int_equal(retrain_load(&m, &set, &err), ERR_CORRUPT);
    buf_free(&m);
}

static int64_t run_auto(void)
{
    int64_t started;
    OK(retrain_auto(s, "rcrnet-lite@1", &started, &err));
    return started;
}

static void test_auto(void **state)
{
    (void)state;
    const char *clip = add_clip("a");
    for (int64_t f = 0; f < 3; f++)
        mask(clip, f);
    assert_int_equal(run_auto(), 0);
    mask(clip, 7);
    assert_int_equal(run_auto(), 1);
    for (int64_t f = 10; f < 20; f++)
        mask(clip, f);
    clock_sleep_ms(5);
    assert_int_equal(run_auto(), 0); /* one waits already */
    struct job_lease l = claim_lease(s, "w", 1000);
    struct job j;
    OK(job_get(s, l.id, &j, &err));
    assert_string_equal(j.model, "rcrnet-lite");
    assert_non_null(strstr(j.params, "\"holdout\":0.3"));
    job_fini(&j);
    assert_int_equal(run_auto(), 0); /* and runs */
    OK(job_publish(s, &l, "{}", &err));
    assert_int_equal(run_auto(), 1); /* what came since it was asked for is enough for another */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_split_by_clip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_split_by_interval, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_little, setup, teardown),
        cmocka_unit_test_setup_teardown(test_auto, setup, teardown),
    };
    RUN_OVER_BACKENDS(tests);
}
