#include "kvfs/virtual/version_name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *parse_digits(const char *p, uint64_t *out)
{
    uint64_t v = 0;

    if (*p < '1' || *p > '9')
        return NULL;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (v > (UINT64_MAX - 9) / 10)
            return NULL;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    *out = v;
    return p;
}

/* Exactly n digits. */
static const char *parse_field(const char *p, int n, int *out)
{
    int v = 0;

    while (n-- > 0) {
        if (p == NULL || *p < '0' || *p > '9')
            return NULL;
        v = v * 10 + (*p++ - '0');
    }
    *out = v;
    return p;
}

static const char *parse_literal(const char *p, char c)
{
    return p != NULL && *p == c ? p + 1 : NULL;
}

/* A fraction of a second: ".5", up to nine digits. */
static const char *parse_fraction(const char *p, uint64_t *ns_out)
{
    uint64_t unit = 100000000;

    *ns_out = 0;
    if (p == NULL || *p != '.')
        return p;
    for (p++; *p >= '0' && *p <= '9' && unit > 0; p++, unit /= 10)
        *ns_out += (uint64_t)(*p - '0') * unit;
    return p;
}

static bool parse_time(const char *p, uint64_t *ns_out)
{
    struct tm tm = {0}, back;
    const char *end;
    uint64_t ns = 0, seconds;
    time_t t;

    end = parse_digits(p, &seconds);
    if (end != NULL && end - p > 4) {
        end = parse_fraction(end, &ns);
        *ns_out = seconds * 1000000000 + ns;
        return *end == '\0' && seconds < UINT64_MAX / 1000000000 - 1;
    }
    end = parse_field(p, 4, &tm.tm_year);
    end = parse_field(parse_literal(end, '-'), 2, &tm.tm_mon);
    end = parse_field(parse_literal(end, '-'), 2, &tm.tm_mday);
    if (end != NULL && *end == 'T') {
        end = parse_field(end + 1, 2, &tm.tm_hour);
        end = parse_field(parse_literal(end, ':'), 2, &tm.tm_min);
        if (end != NULL && *end == ':')
            end = parse_fraction(parse_field(end + 1, 2, &tm.tm_sec), &ns);
        if (end != NULL && *end == 'Z')
            end++;
    }
    if (end == NULL || *end != '\0')
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    back = tm;
    t = timegm(&back);
    /* timegm() accepts February 30th; a name that means another day is refused. */
    if (t < 0 || back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday || back.tm_hour != tm.tm_hour ||
        back.tm_min != tm.tm_min || back.tm_sec != tm.tm_sec)
        return false;
    *ns_out = (uint64_t)t * 1000000000 + ns;
    return true;
}

bool version_name_parse(const char *name, struct version_name *out)
{
    const char *end;

    *out = (struct version_name){0};
    if (name[0] == '@') {
        out->kind = VERSION_TIME;
        return parse_time(name + 1, &out->wall_ns);
    }
    if (name[0] == '-') {
        out->kind = VERSION_BACK;
        end = parse_digits(name + 1, &out->number);
        return end != NULL && *end == '\0';
    }
    end = parse_digits(name, &out->number);
    if (end == NULL)
        return false;
    if (*end == '\0') {
        out->kind = VERSION_NUMBER;
        return true;
    }
    out->kind = VERSION_DELETED;
    return strcmp(end, ".deleted") == 0;
}

void version_name_format(uint64_t number, bool deleted, char *out)
{
    snprintf(out, VERSION_NAME_MAX, "%" PRIu64 "%s", number, deleted ? ".deleted" : "");
}
