#include "sync/wire/health.h"

#include <stddef.h>
#include <string.h>

enum health_tag {
    TAG_FLAGS = 1,
    TAG_COMMIT = 2,
    TAG_LAST = 3,
    TAG_FIRST = 4,
    TAG_DURABLE = 5,
    TAG_WALL_NS = 6,
    TAG_UPTIME_MS = 7,
    TAG_KEYS = 8,
    TAG_LIVE_BYTES = 9,
    TAG_MAX_KEYS = 10,
    TAG_MAX_BYTES = 11,
    TAG_DISK_FREE = 12,
    TAG_DISK_TOTAL = 13,
    TAG_RSS = 14,
    TAG_LEADER = 15,
    TAG_LEVEL = 16,
    TAG_ELECTION_MS = 17,
    TAG_COMMIT_P50_US = 18,
    TAG_COMMIT_P99_US = 19,
    TAG_VERSION = HEALTH_TAG_STRING | 1,
    TAG_LINKS = HEALTH_TAG_STRING | 2, /* u16 ids */
    TAG_HTTP = HEALTH_TAG_STRING | 3
};

static const struct {
    uint16_t tag;
    size_t at;
} numbers[] = {
    {TAG_FLAGS, offsetof(struct health, flags)},
    {TAG_COMMIT, offsetof(struct health, commit)},
    {TAG_LAST, offsetof(struct health, last_index)},
    {TAG_FIRST, offsetof(struct health, first)},
    {TAG_DURABLE, offsetof(struct health, durable)},
    {TAG_WALL_NS, offsetof(struct health, wall_ns)},
    {TAG_UPTIME_MS, offsetof(struct health, uptime_ms)},
    {TAG_KEYS, offsetof(struct health, keys)},
    {TAG_LIVE_BYTES, offsetof(struct health, live_bytes)},
    {TAG_MAX_KEYS, offsetof(struct health, max_keys)},
    {TAG_MAX_BYTES, offsetof(struct health, max_bytes)},
    {TAG_DISK_FREE, offsetof(struct health, disk_free)},
    {TAG_DISK_TOTAL, offsetof(struct health, disk_total)},
    {TAG_RSS, offsetof(struct health, rss)},
    {TAG_LEADER, offsetof(struct health, leader)},
    {TAG_LEVEL, offsetof(struct health, level)},
    {TAG_ELECTION_MS, offsetof(struct health, election_ms)},
    {TAG_COMMIT_P50_US, offsetof(struct health, commit_p50_us)},
    {TAG_COMMIT_P99_US, offsetof(struct health, commit_p99_us)},
};
#define N_NUMBERS (sizeof numbers / sizeof numbers[0])
#define N_STRINGS 3

void health_encode(struct buffer *b, const struct health *h)
{
    size_t i;

    buffer_put_u16(b, N_NUMBERS + N_STRINGS);
    for (i = 0; i < N_NUMBERS; i++) {
        uint64_t v;

        memcpy(&v, (const char *)h + numbers[i].at, sizeof v);
        buffer_put_u16(b, numbers[i].tag);
        buffer_put_u64(b, v);
    }
    buffer_put_u16(b, TAG_VERSION);
    buffer_put_text(b, h->version);
    buffer_put_u16(b, TAG_LINKS);
    buffer_put_u32(b, (uint32_t)(h->n_links * 2));
    for (i = 0; i < h->n_links; i++)
        buffer_put_u16(b, (uint16_t)h->links[i]);
    buffer_put_u16(b, TAG_HTTP);
    buffer_put_text(b, h->http);
}

/* It goes to terminals. */
static void take_text(char *out, size_t size, const uint8_t *text, size_t len)
{
    size_t i;

    memset(out, 0, size); /* the last of several counts, alone */
    for (i = 0; i < len && i < size - 1; i++)
        out[i] = text[i] > ' ' && text[i] < 127 ? (char)text[i] : '?';
}

static void take_links(struct health *h, const uint8_t *ids, size_t len)
{
    struct cursor in = cursor_of(ids, len);

    memset(h->links, 0, sizeof h->links);
    for (h->n_links = 0; in.len >= 2 && h->n_links < HEALTH_LINKS_MAX; h->n_links++)
        h->links[h->n_links] = cursor_u16(&in);
}

static void take_number(struct health *h, uint16_t tag, uint64_t v)
{
    size_t i;

    for (i = 0; i < N_NUMBERS; i++)
        if (numbers[i].tag == tag)
            memcpy((char *)h + numbers[i].at, &v, sizeof v);
}

bool health_decode(struct cursor *in, struct health *out)
{
    unsigned n, i;

    memset(out, 0, sizeof *out);
    if (in->len == 0 && !in->failed)
        return true;
    n = cursor_u16(in);
    if (n > HEALTH_FIELDS_MAX)
        return false;
    for (i = 0; i < n && !in->failed; i++) {
        uint16_t tag = cursor_u16(in);

        if (tag & HEALTH_TAG_STRING) {
            size_t len;
            const uint8_t *text = cursor_string(in, HEALTH_STRING_MAX, &len);

            if (in->failed)
                break;
            if (tag == TAG_VERSION)
                take_text(out->version, sizeof out->version, text, len);
            else if (tag == TAG_HTTP)
                take_text(out->http, sizeof out->http, text, len);
            else if (tag == TAG_LINKS)
                take_links(out, text, len);
        } else {
            take_number(out, tag, cursor_u64(in));
        }
    }
    return cursor_done(in);
}
