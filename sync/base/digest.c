#define XXH_INLINE_ALL
#include <xxhash.h>

#include "sync/base/digest.h"

uint64_t digest64(uint64_t seed, const void *data, size_t len)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

struct digest_stream *digest_stream_new(void)
{
    XXH3_state_t *state = XXH3_createState();

    if (state != NULL)
        XXH3_64bits_reset(state);
    return (struct digest_stream *)state;
}

void digest_stream_add(struct digest_stream *s, const void *data, size_t len)
{
    XXH3_64bits_update((XXH3_state_t *)s, data, len);
}

uint64_t digest_stream_value(const struct digest_stream *s)
{
    return XXH3_64bits_digest((const XXH3_state_t *)s);
}

void digest_stream_free(struct digest_stream *s)
{
    XXH3_freeState((XXH3_state_t *)s);
}
