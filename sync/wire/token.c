#include "sync/wire/token.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CLUSTER_DIGITS 16

void place_token_format(uint64_t cluster, uint64_t revision, char out[PLACE_TOKEN_SIZE])
{
    snprintf(out, PLACE_TOKEN_SIZE, "0-%" PRIu64 "-%016" PRIx64, revision, cluster);
}

static bool take_revision(const char *text, size_t len, uint64_t *revision_out)
{
    uint64_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || n > (INT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    *revision_out = n;
    return len > 0;
}

static bool take_cluster(const char *text, size_t len, uint64_t *cluster_out)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t n = 0;

    if (len != CLUSTER_DIGITS)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char *digit = memchr(digits, text[i], sizeof digits - 1);

        if (digit == NULL)
            return false;
        n = n << 4 | (uint64_t)(digit - digits);
    }
    *cluster_out = n;
    return n != 0;
}

bool place_token_parse(const char *text, size_t len, uint64_t *cluster_out, uint64_t *revision_out)
{
    const char *dash;

    *cluster_out = 0;
    *revision_out = 0;
    if (len < 3 || text[0] != '0' || text[1] != '-')
        return false;
    text += 2;
    len -= 2;
    dash = memchr(text, '-', len);
    if (dash == NULL)
        return take_revision(text, len, revision_out);
    return take_revision(text, (size_t)(dash - text), revision_out) &&
           take_cluster(dash + 1, len - (size_t)(dash - text) - 1, cluster_out);
}
