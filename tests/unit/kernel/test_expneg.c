/* exp_neg against libm over its whole range, and at what is no number. */
#include "tests/unit/check.h"

#include <math.h>

#include "core/kernel/expneg.h"

static void close_to_libm(void **state)
{
    (void)state;
    for (float x = 0; x > -87; x -= 0.0037f) {
        double want = exp((double)x);
        assert_true(fabs((double)exp_neg(x) - want) <= 1e-5 * want);
    }
}

static void odd_values_are_safe(void **state)
{
    (void)state;
    assert_true(exp_neg(NAN) == 1.0f);
    assert_true(exp_neg(1e30f) == 1.0f);
    assert_true(exp_neg(0.0f) == 1.0f);
    assert_true(exp_neg(-INFINITY) >= 0.0f && exp_neg(-INFINITY) < 1e-37f);
    assert_true(exp_neg(-1e30f) == exp_neg(-INFINITY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_to_libm),
        cmocka_unit_test(odd_values_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
