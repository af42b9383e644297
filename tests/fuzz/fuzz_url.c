/* Fuzzes what reads a request's address and headers: lines of ADDRESS, Host, Origin, If-Match and
 * Idempotency-Key. What is taken is within its bounds, and a key that is taken is one. */
#include <stdlib.h>
#include <string.h>

#include "kvnode/web/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_key(struct url *url)
{
    const char *key;
    char why[400];
    bool directory;
    size_t len;

    if (strncmp(url->path, "/kv/", 4) != 0)
        return;
    if (url_key(url, &key, &len, &directory) != 0) {
        if (url->status != 400 || url->why[0] == '\0')
            abort();
        return;
    }
    if (len != strlen(key) || len > KV_PATH_MAX || key_check(key, directory, why, sizeof why) != 0 ||
        key[0] == '/')
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *line = text, *lines[5] = {"", "", "", "", ""};
    struct url *url = malloc(sizeof *url);
    struct etags etags;
    uint64_t session, seq;
    unsigned i;

    memcpy(text, data, size);
    text[size] = '\0';
    for (i = 0; i < 5 && line != NULL; i++) {
        lines[i] = line;
        line = strchr(line, '\n');
        if (line != NULL)
            *line++ = '\0';
    }
    if (url_parse(lines[0], url) == 0) {
        if (url->path[0] != '/' || url->path_len != strlen(url->path))
            abort();
        for (i = 0; i < PARAM_COUNT; i++)
            if ((url->given >> i & 1) != (url->value[i] != NULL))
                abort();
        check_key(url);
    } else if ((url->status != 400 && url->status != 414) || url->why[0] == '\0') {
        abort();
    }
    if (host_is_ours(lines[1], 7080, "kv.example") && strpbrk(lines[1], "/ @") != NULL)
        abort();
    origin_is_host(lines[2], lines[1]);
    etags_parse(lines[3], &etags);
    if (etags.n > ETAGS_MAX)
        abort();
    if (idempotency_parse(lines[4], &session, &seq) && (session == 0 || seq == 0))
        abort();
    free(url);
    free(text);
    return 0;
}
