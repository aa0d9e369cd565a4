/* API keys, over every database: what lets a request in, and for how long. */
#include "tests/unit/store/harness.h"

#include "core/store/access.h"

static struct store *s;
static char url[URL_MAX];

static int setup(void **state)
{
    (void)state;
    s = open_fresh(NULL, url);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(s);
    return 0;
}

static bool lets_in(const struct api_key *k, const char *secret, int64_t now_ms)
{
    char sha256[SHA256_HEX_SIZE];
    sha256_hex(secret, strlen(secret), sha256);
    return api_key_matches(k, sha256, now_ms);
}

static void only_the_hash_is_kept(void **state)
{
    (void)state;
    char secret[API_KEY_SECRET_SIZE], other[API_KEY_SECRET_SIZE];
    struct api_key want = {.name = "ci", .scopes = "read,submit"}, k, second;
    OK(api_key_add(s, &want, secret, &k, &err));
    OK(api_key_add(s, &want, other, &second, &err));
    assert_int_equal(strlen(secret), API_KEY_SECRET_SIZE - 1);
    assert_string_not_equal(secret, other);
    assert_string_equal(k.tenant, "");
    assert_null(strstr(k.key_sha256, secret + strlen(API_KEY_PREFIX)));
    int64_t now = clock_wall_ms();
    assert_true(lets_in(&k, secret, now));
    assert_false(lets_in(&k, other, now));
    assert_false(lets_in(&k, "", now));
    struct api_key_list l;
    OK(api_key_list(s, &l, &err));
    assert_int_equal(l.n, 2);
    assert_string_equal(l.items[0].id, k.id);
    api_key_list_fini(&l);
    api_key_fini(&k);
    api_key_fini(&second);
}

static void keys_expire_rotate_and_end(void **state)
{
    (void)state;
    char first[API_KEY_SECRET_SIZE], second[API_KEY_SECRET_SIZE];
    int64_t now = clock_wall_ms();
    struct api_key want = {.name = "n", .tenant = "t", .scopes = "admin", .expires_ms = now + 100000}, k, turned;
    OK(api_key_add(s, &want, first, &k, &err));
    assert_true(lets_in(&k, first, now + 99999));
    assert_false(lets_in(&k, first, now + 100000));
    OK(api_key_rotate(s, k.id, 50000, second, &turned, &err));
    assert_string_equal(turned.tenant, "t");
    assert_true(lets_in(&turned, second, now) && lets_in(&turned, first, now));
    assert_false(lets_in(&turned, first, clock_wall_ms() + 50000));
    OK(api_key_revoke(s, k.id, &err));
    assert_int_equal(api_key_revoke(s, k.id, &err), ERR_CONFLICT);
    assert_int_equal(api_key_revoke(s, "nobody", &err), ERR_NOTFOUND);
    api_key_fini(&turned);
    assert_int_equal(api_key_rotate(s, k.id, 0, second, &turned, &err), ERR_CONFLICT);
    assert_null(turned.id);
    struct api_key_list l;
    OK(api_key_list(s, &l, &err));
    assert_int_equal(l.n, 1);
    assert_false(lets_in(&l.items[0], second, now));
    api_key_list_fini(&l);
    api_key_fini(&k);
}

static void scopes_are_named(void **state)
{
    (void)state;
    unsigned set;
    OK(access_scopes_parse("read,annotate", &set, &err));
    assert_int_equal(set, 1u << SCOPE_READ | 1u << SCOPE_ANNOTATE);
    OK(access_scopes_parse("admin", &set, &err));
    assert_true(set & 1u << SCOPE_SUBMIT);
    static const char *const bad[] = {"", ",", "open", "Read", "read,,submit", "read submit"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(access_scopes_parse(bad[i], &set, &err), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_the_hash_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_expire_rotate_and_end, setup, teardown),
        cmocka_unit_test(scopes_are_named),
    };
    RUN_OVER_BACKENDS(tests);
}
