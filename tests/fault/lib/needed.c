#include "tests/fault/lib/needed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

void needed(const char *missing)
{
    if (missing == NULL)
        return;
    if (getenv("CI") != NULL)
        fail_msg("%s", missing);
    print_message("# skipped: %s\n", missing);
    skip();
}
