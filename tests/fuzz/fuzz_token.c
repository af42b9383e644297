/* Fuzzes the file of tokens: what is taken is within its bounds and found again, what is not is said of a
 * line. */
#include <stdlib.h>
#include <string.h>

#include "kvnode/web/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[TOKEN_WHY_MAX];
    struct tokens t, young;
    size_t i;

    if (tokens_parse((const char *)data, size, &t, why) != 0) {
        if (strncmp(why, "line ", strlen("line ")) != 0 || t.n != 0 || t.all != NULL)
            abort();
        return 0;
    }
    if (t.n > TOKENS_MAX)
        abort();
    for (i = 0; i < t.n; i++) {
        const struct token *one = t.all[i];
        size_t len = strlen(one->prefix);

        if (tokens_find(&t, one->secret) != one || strlen(one->secret) < TOKEN_MIN ||
            !command_label_check(one->name, strlen(one->name)) || !token_covers(one, one->prefix, len))
            abort();
        if (len > 0 && (token_covers(one, "", 0) || token_covers(one, one->prefix, len - 1)))
            abort();
    }
    if (tokens_parse((const char *)data, size, &young, why) != 0 || young.n != t.n)
        abort();
    tokens_replace(&t, &young);
    for (i = 0; i < t.n; i++)
        if (t.all[i]->revoked)
            abort();
    tokens_free(&t);
    return 0;
}
