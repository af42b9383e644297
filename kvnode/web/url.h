/* What stands in a request's first line and its headers: no I/O, no allocation. All that a browser, a script
 * or an attacker sends comes through here first (tests/fuzz/fuzz_url.c). */
#ifndef KVFS_KVNODE_WEB_URL_H
#define KVFS_KVNODE_WEB_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/wire/attr.h"

#define URL_MAX                                                                                              \
    16384 /* of the raw text: a path of KV_PATH_MAX bytes, each percent-encoded, and parameters              \
           */
#define URL_VALUE_MAX 4096
#define URL_WHY_MAX 400

/* A parameter, in the order of the table in url.c. */
enum url_param {
    PARAM_VERSION,
    PARAM_HISTORY,
    PARAM_TEXT,
    PARAM_LOCAL,
    PARAM_LIMIT,
    PARAM_AFTER,
    PARAM_RECURSIVE,
    PARAM_PREFIX,
    PARAM_SINCE,
    PARAM_TTL,
    PARAM_AS_OF,
    PARAM_COUNT
};

struct url {
    char path[URL_MAX]; /* decoded once, with its NUL; begins with a slash */
    size_t path_len;
    unsigned given;                 /* 1 << enum url_param */
    const char *value[PARAM_COUNT]; /* decoded, in values[]; "" where there was no '=' */
    char values[URL_VALUE_MAX];
    size_t used; /* of values[] */
    int status;  /* of the last refusal */
    char why[URL_WHY_MAX];
};

/* Decodes path and parameters. 0, or the HTTP status of a refusal with a sentence in url->why: 400, 414.
 * Parameters that nobody knows are refused with the names of those there are. */
int url_parse(const char *raw, struct url *url_out);
bool url_has(const struct url *url, enum url_param p);
/* A parameter that is a number, or fallback where it is not given. False: it is none within the bounds;
 * url->why. */
bool url_number(struct url *url, enum url_param p, uint64_t fallback, uint64_t min, uint64_t max,
                uint64_t *out);
/* What a parameter is called. */
const char *url_param_name(enum url_param p);
/* The key that a path below /kv/ names, in url->path, in its place; a directory's ends in a slash, or is
 * empty: the root. 0, or 400 with url->why. */
int url_key(struct url *url, const char **key_out, size_t *len_out, bool *directory_out);

/* Whether a Host header names this node: "localhost", an address of loopback, or one of the configured hosts,
 * with the port or without one. configured: "host[:port],…" or "". */
bool host_is_ours(const char *host, uint16_t port, const char *configured);

/* Whether an Origin is the one that Host names, over http or https: a page of ours. */
bool origin_is_host(const char *origin, const char *host);

/* A revision token, "0-123". */
bool token_parse(const char *text, size_t len, uint64_t *revision_out);
/* One entity tag of If-Match or If-None-Match: "\"0-123\"", W/ before it is weak. */
enum etag_match { ETAG_NONE, ETAG_ANY, ETAG_LIST, ETAG_MALFORMED };
#define ETAGS_MAX 16
struct etags {
    enum etag_match kind;
    unsigned n;
    uint64_t revisions[ETAGS_MAX]; /* 0: none that we gave */
};
/* header: NULL: ETAG_NONE. */
void etags_parse(const char *header, struct etags *out);
bool etags_have(const struct etags *e, uint64_t revision);

/* Of an Idempotency-Key that this node has given: "SESSION-NUMBER", decimal. */
bool idempotency_parse(const char *text, uint64_t *session_out, uint64_t *seq_out);

#endif
