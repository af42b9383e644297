#include "sync/wire/ttl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *unit;
    uint64_t ms;
} units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},  {"s", 1000},
             {"ms", 1},       {"", 1000},     {"min", 60000}};

static bool is(const void *name, size_t len, const char *what)
{
    return len == strlen(what) && memcmp(name, what, len) == 0;
}

bool xattr_is_ttl(const void *name, size_t len)
{
    return is(name, len, XATTR_TTL);
}

bool xattr_is_expires(const void *name, size_t len)
{
    return is(name, len, XATTR_EXPIRES);
}

bool ttl_parse(const void *text, size_t len, uint64_t *ms_out)
{
    const char *p = text, *end = p + len;
    uint64_t n = 0;

    while (p < end && *p >= '0' && *p <= '9') {
        n = n * 10 + (uint64_t)(*p++ - '0');
        if (n > KV_TTL_MAX_MS)
            return false;
    }
    if (len == 0 || p == text)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!is(p, (size_t)(end - p), units[i].unit))
            continue;
        if (n > KV_TTL_MAX_MS / units[i].ms || n * units[i].ms < KV_TTL_MIN_MS)
            return false;
        *ms_out = n * units[i].ms;
        return true;
    }
    return false;
}

size_t ttl_format(uint64_t ms, char text[TTL_TEXT_MAX])
{
    size_t i = 0;

    while (ms % units[i].ms != 0)
        i++;
    return (size_t)snprintf(text, TTL_TEXT_MAX, "%" PRIu64 "%s", ms / units[i].ms, units[i].unit);
}

size_t ttl_format_end(uint64_t ms, char text[TTL_TEXT_MAX])
{
    time_t at = (time_t)(ms / 1000);
    struct tm tm;

    gmtime_r(&at, &tm);
    return strftime(text, TTL_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
