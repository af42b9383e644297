/* Fuzzes what a peer says of itself: what decodes must encode to something that decodes
 * to the same. */
#include <stdlib.h>
#include <string.h>

#include "sync/wire/health.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cursor in = cursor_of(data, size);
    struct buffer b = BUFFER_INIT;
    struct health h, again;

    if (!health_decode(&in, &h))
        return 0;
    health_encode(&b, &h);
    in = cursor_of(b.data, b.len);
    if (b.failed || !health_decode(&in, &again) || memcmp(&h, &again, sizeof h) != 0)
        abort();
    buffer_deinit(&b);
    return 0;
}
