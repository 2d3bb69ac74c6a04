/* UTF-8 as Python reads it: each length, its borders, and what is cut. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/utf8.h"

static const struct {
    const char *text;
    size_t good;
} cases[] = {
    {"", 0}, {"plain", 5}, {"12345678" "90", 10}, {"h\xc3\xa9", 3}, {"\xe2\x82\xac!", 4},
    {"\xf0\x9f\x98\x80", 4}, {"\xf4\x8f\xbf\xbf", 4}, {"\xed\x9f\xbf", 3}, {"\xee\x80\x80", 3},
    {"12345678\xff", 8}, {"1234567\xff" "90", 7}, {"\x80", 0}, {"\xc1\xbf", 0}, {"a\xc3", 1},
    {"\xe2\x82", 0}, {"\xe0\x9f\xbf", 0}, {"\xed\xa0\x80", 0}, {"\xf0\x8f\xbf\xbf", 0},
    {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0}, {"ab\xf0\x9f\x98", 2},
};

static void spans(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_span(cases[i].text, strlen(cases[i].text)), cases[i].good);
    assert_int_equal(utf8_span("a\0b", 3), 3);
    assert_int_equal(utf8_span("h\xc3\xa9", 2), 1); /* the size ends it, not what follows */
}

static void made(void **state) {
    char latin[] = "a caf\xe9 and \xff\xfe\xfd", cut[] = "\xc3\xa9\xc3", good[] = "t\xc3\xa4xt";

    (void)state;
    utf8_make(latin);
    assert_string_equal(latin, "a caf? and ???");
    utf8_make(cut);
    assert_string_equal(cut, "\xc3\xa9?");
    utf8_make(good);
    assert_string_equal(good, "t\xc3\xa4xt");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(spans), cmocka_unit_test(made)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
