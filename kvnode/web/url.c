#include "kvnode/web/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const names[PARAM_COUNT] = {
    [PARAM_VERSION] = "version",     [PARAM_HISTORY] = "history",
    [PARAM_TEXT] = "text",           [PARAM_LOCAL] = "local",
    [PARAM_LIMIT] = "limit",         [PARAM_AFTER] = "after",
    [PARAM_RECURSIVE] = "recursive", [PARAM_PREFIX] = "prefix",
    [PARAM_SINCE] = "since",         [PARAM_TTL] = "ttl",
    [PARAM_AS_OF] = "as-of",
};

const char *url_param_name(enum url_param p)
{
    return names[p];
}

__attribute__((format(printf, 3, 4))) static int refuse(struct url *url, int status, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(url->why, sizeof url->why, fmt, ap);
    va_end(ap);
    url->status = status;
    return status;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes once, up to a stop character or the end. Where it stopped, or NULL with why. */
static const char *decode(struct url *url, const char *in, const char *stop, char *out, size_t size,
                          size_t *len_out)
{
    size_t n = 0;

    if (size == 0) { /* the values before this one have used it up */
        refuse(url, 414, "the address is longer than this node takes");
        return NULL;
    }
    for (; *in != '\0' && strchr(stop, *in) == NULL; in++) {
        unsigned char c = (unsigned char)*in;

        if (c == '%') {
            int high = hex(in[1]), low = high >= 0 ? hex(in[2]) : -1;

            if (low < 0) {
                refuse(url, 400, "%%%.2s is no percent-encoded byte", in + 1);
                return NULL;
            }
            c = (unsigned char)(high << 4 | low);
            in += 2;
        }
        if (c == '\0') {
            refuse(url, 400, "a NUL byte stands in no name");
            return NULL;
        }
        if (n + 1 >= size) {
            refuse(url, 414, "the address is longer than this node takes");
            return NULL;
        }
        out[n++] = (char)c;
    }
    out[n] = '\0';
    *len_out = n;
    return in;
}

static int unknown(struct url *url, const char *name)
{
    char all[200] = "";
    size_t used = 0;
    unsigned i;

    for (i = 0; i < PARAM_COUNT; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? ", " : "", names[i]);
    return refuse(url, 400, "there is no parameter `%.60s`; there are: %s", name, all);
}

static int parse_param(struct url *url, const char **at)
{
    char name[32];
    size_t len;
    const char *in = *at;
    unsigned p;

    in = decode(url, in, "=&", name, sizeof name, &len);
    if (in == NULL)
        return url->status == 414 ? unknown(url, "…") : url->status;
    for (p = 0; p < PARAM_COUNT && strcmp(names[p], name) != 0; p++)
        ;
    if (p == PARAM_COUNT)
        return unknown(url, name);
    if ((url->given >> p & 1) != 0)
        return refuse(url, 400, "the parameter `%s` is given twice", name);
    url->given |= 1u << p;
    url->value[p] = "";
    if (*in == '=') {
        char *value = url->values + url->used;

        in = decode(url, in + 1, "&", value, sizeof url->values - url->used, &len);
        if (in == NULL)
            return url->status;
        url->value[p] = value;
        url->used += len + 1;
    }
    *at = *in == '&' ? in + 1 : in;
    return 0;
}

int url_parse(const char *raw, struct url *url)
{
    const char *at;

    url->given = 0;
    url->used = 0;
    url->why[0] = '\0';
    url->status = 0;
    memset(url->value, 0, sizeof url->value);
    if (raw[0] != '/')
        return refuse(url, 400, "an address begins with a slash");
    at = decode(url, raw, "?#", url->path, sizeof url->path, &url->path_len);
    if (at == NULL)
        return url->status;
    if (*at == '#')
        return refuse(url, 400, "a fragment (#) is not sent; a # in a key is %%23");
    if (*at == '?')
        at++;
    while (*at != '\0') {
        int status = parse_param(url, &at);

        if (status != 0)
            return status;
    }
    return 0;
}

int url_key(struct url *url, const char **key_out, size_t *len_out, bool *directory_out)
{
    const char *key = url->path + strlen("/kv/");
    size_t len = url->path_len - strlen("/kv/");
    char why[URL_WHY_MAX];

    *key_out = key;
    *len_out = len;
    *directory_out = len == 0 || key[len - 1] == '/';
    if (key[0] == '/')
        return refuse(url, 400, "a key has no empty part (two slashes in a row)");
    if (key_check(key, *directory_out, why, sizeof why) != 0)
        return refuse(url, 400, "%s", why);
    return 0;
}

/* Splits "host", "host:port", "[v6]:port"; without its brackets. */
static bool split_host(const char *text, size_t text_len, char *host_out, size_t size, long *port_out)
{
    const char *host = text, *end = text + text_len, *colon;
    size_t len;

    *port_out = -1;
    if (text_len > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', text_len);

        if (close == NULL)
            return false;
        host = text + 1;
        len = (size_t)(close - host);
        colon = close + 1 < end ? close + 1 : NULL;
    } else {
        colon = memchr(text, ':', text_len);
        len = colon != NULL ? (size_t)(colon - text) : text_len;
    }
    if (len == 0 || len >= size)
        return false;
    if (colon != NULL) {
        const char *p;
        long port = 0;

        if (*colon != ':' || colon + 1 == end || end - colon > 6)
            return false;
        for (p = colon + 1; p < end; p++) {
            if (*p < '0' || *p > '9')
                return false;
            port = port * 10 + (*p - '0');
        }
        *port_out = port;
    }
    memcpy(host_out, host, len);
    host_out[len] = '\0';
    return true;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool host_is_ours(const char *text, uint16_t port, const char *configured)
{
    char host[256], one[256];
    long given, wanted;

    if (text == NULL || !split_host(text, strlen(text), host, sizeof host, &given))
        return false;
    if (is_loopback(host))
        return port == 0 || given < 0 || given == port;
    while (*configured != '\0') {
        size_t len = strcspn(configured, ",");

        if (split_host(configured, len, one, sizeof one, &wanted) && strcasecmp(one, host) == 0 &&
            (wanted < 0 || wanted == given))
            return true;
        configured += len + (configured[len] == ',');
    }
    return false;
}

bool origin_is_host(const char *origin, const char *host)
{
    if (host == NULL)
        return false;
    if (strncasecmp(origin, "http://", 7) == 0)
        return strcasecmp(origin + 7, host) == 0;
    return strncasecmp(origin, "https://", 8) == 0 && strcasecmp(origin + 8, host) == 0;
}

static bool number(const char *text, size_t len, uint64_t *out)
{
    uint64_t n = 0;
    size_t i;

    if (len == 0 || len > 20)
        return false;
    for (i = 0; i < len; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');

        if (text[i] < '0' || text[i] > '9' || n > (UINT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return true;
}

bool url_has(const struct url *url, enum url_param p)
{
    return (url->given >> p & 1) != 0;
}

bool url_number(struct url *url, enum url_param p, uint64_t fallback, uint64_t min, uint64_t max,
                uint64_t *out)
{
    *out = fallback;
    if (!url_has(url, p) || (number(url->value[p], strlen(url->value[p]), out) && *out >= min && *out <= max))
        return true;
    refuse(url, 400, "the parameter `%s` is a number from %" PRIu64 " to %" PRIu64, names[p], min, max);
    return false;
}

bool token_parse(const char *text, size_t len, uint64_t *revision_out)
{
    return len > 2 && text[0] == '0' && text[1] == '-' && number(text + 2, len - 2, revision_out);
}

void etags_parse(const char *p, struct etags *out)
{
    *out = (struct etags){.kind = ETAG_NONE};
    if (p == NULL)
        return;
    p += strspn(p, " \t");
    if (p[0] == '*' && p[1 + strspn(p + 1, " \t")] == '\0') {
        out->kind = ETAG_ANY;
        return;
    }
    out->kind = ETAG_LIST;
    do {
        uint64_t revision = 0;
        const char *end;

        p += strspn(p, " \t");
        if (strncmp(p, "W/", 2) == 0)
            p += 2;
        end = *p == '"' ? strchr(p + 1, '"') : NULL;
        if (end == NULL || out->n == ETAGS_MAX) {
            out->kind = ETAG_MALFORMED;
            return;
        }
        if (!token_parse(p + 1, (size_t)(end - p - 1), &revision))
            revision = 0; /* somebody else's: it matches nothing */
        out->revisions[out->n++] = revision;
        p = end + 1;
        p += strspn(p, " \t");
    } while (*p++ == ',');
    if (p[-1] != '\0')
        out->kind = ETAG_MALFORMED;
}

bool etags_have(const struct etags *e, uint64_t revision)
{
    unsigned i;

    for (i = 0; i < e->n; i++)
        if (e->revisions[i] != 0 && e->revisions[i] == revision)
            return true;
    return e->kind == ETAG_ANY;
}

bool idempotency_parse(const char *text, uint64_t *session_out, uint64_t *seq_out)
{
    size_t len = strcspn(text, "-");

    return text[len] == '-' && number(text, len, session_out) &&
           number(text + len + 1, strlen(text + len + 1), seq_out) && *session_out != 0 && *seq_out != 0;
}
