#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/utf8.h"

static const struct {
    const char *bytes;
    size_t n;
    uint32_t character;
} cases[] = {
    {"a", 1, 'a'},
    {"\x7f", 1, 0x7f},
    {"\xc2\x80", 2, 0x80},
    {"\xdf\xbf", 2, 0x7ff},
    {"\xe0\xa0\x80", 3, 0x800},
    {"\xed\x9f\xbf", 3, 0xd7ff},
    {"\xee\x80\x80", 3, 0xe000},
    {"\xf0\x90\x80\x80", 4, 0x10000},
    {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
    /* Too long forms, surrogates, beyond the end, no beginning, cut off. */
    {"\xc0\x80", 0, 0},
    {"\xc1\xbf", 0, 0},
    {"\xe0\x9f\xbf", 0, 0},
    {"\xf0\x8f\xbf\xbf", 0, 0},
    {"\xed\xa0\x80", 0, 0},
    {"\xed\xbf\xbf", 0, 0},
    {"\xf4\x90\x80\x80", 0, 0},
    {"\xf5\x80\x80\x80", 0, 0},
    {"\x80", 0, 0},
    {"\xff", 0, 0},
    {"\xc2"
     "a",
     0, 0},
    {"\xe2\x82", 0, 0},
    {"\xf0\x9f\x98", 0, 0},
};

static void each_is_what_the_standard_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t character = 0;

        assert_int_equal(utf8_decode(cases[i].bytes, strlen(cases[i].bytes), &character), cases[i].n);
        assert_int_equal(character, cases[i].character);
        if (cases[i].n > 0)
            assert_int_equal(utf8_decode(cases[i].bytes, cases[i].n - 1, &character), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_is_what_the_standard_says)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
