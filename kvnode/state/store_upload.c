/* Commands in parts. What is not complete takes memory on every node, so there is a
 * bound for one command (longer than any value: KV_E_FBIG), for a session, for an
 * owner and for all (KV_E_BUSY). What is refused is dropped whole: two uploads that
 * fit only one after the other would else stop each other for ever. Its client sends
 * it again from the first part, under the same number. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"

/* A body is longer than its value. */
#define BODY_SLACK 65536
/* What an upload and each of its parts are charged besides their bytes, so that there
 * are not too many either. */
#define UPLOAD_COST 16384
#define PART_COST 64
#define ALL_MIN (512UL << 20)

/* Without a last piece that was joined to them. */
static size_t parts_len(const struct upload *up)
{
    return up->bytes.len - up->joined;
}

static uint64_t cost_of(const struct upload *up)
{
    return parts_len(up) + (uint64_t)up->n_parts * PART_COST + UPLOAD_COST;
}

static void charge(struct store *s, struct session *ss, uint64_t cost)
{
    ss->upload_cost += cost;
    ss->owner->upload_cost += cost;
    s->upload_cost += cost;
    if (owner_is_user(ss->owner))
        s->users.upload_cost += cost;
}

void upload_free(struct store *s, struct session *ss, struct upload *up)
{
    LIST_REMOVE(up, peers);
    charge(s, ss, -cost_of(up));
    s->part_bytes -= parts_len(up);
    store_spend(s, &up->bytes);
    buffer_deinit(&up->ends);
    free(up);
}

void session_drop_upload(struct store *s, struct session *ss, struct upload *up)
{
    s->digest -= up->digest;
    journal_upload_gone(s->journal, up);
    upload_free(s, ss, up);
}

struct upload *session_upload(const struct session *ss, uint64_t seq)
{
    struct upload *up;

    LIST_FOREACH (up, &ss->uploads, peers)
        if (up->seq == seq)
            return up;
    return NULL;
}

int session_join(const struct session *ss, const struct command *cmd, const void **body_out, size_t *len_out)
{
    struct upload *up = session_upload(ss, cmd->seq);
    struct cursor c;
    uint32_t n_parts;
    uint64_t ignored;

    /* One that was sent ahead of a part that got lost must not do without it. */
    if (!command_last_piece(cmd, &n_parts, &ignored, &c) || up == NULL || up->n_parts != n_parts)
        return KV_E_PART;
    up->bytes.len -= up->joined;
    up->joined = c.len;
    buffer_put_bytes(&up->bytes, c.data, c.len);
    if (up->bytes.failed)
        return -ENOMEM;
    *body_out = up->bytes.data;
    *len_out = up->bytes.len;
    return 0;
}

static struct upload *upload_new(struct store *s, struct session *ss, uint64_t seq)
{
    struct upload *up = calloc(1, sizeof *up);

    if (up == NULL)
        return NULL;
    up->session = ss->id;
    up->seq = seq;
    LIST_INSERT_HEAD(&ss->uploads, up, peers);
    charge(s, ss, UPLOAD_COST);
    return up;
}

int session_add_part(struct store *s, struct session *ss, uint64_t seq, uint32_t number, const void *bytes,
                     size_t len, bool queued)
{
    struct upload *up = session_upload(ss, seq);
    uint64_t digest = part_row_digest(ss->id, seq, number, bytes, len);
    uint32_t end;

    if (up == NULL)
        up = upload_new(s, ss, seq);
    if (up == NULL)
        return -ENOMEM;
    up->bytes.len -= up->joined;
    up->joined = 0;
    end = (uint32_t)(up->bytes.len + len);
    buffer_put_bytes(&up->ends, &end, sizeof end);
    if (!up->ends.failed)
        buffer_put_bytes(&up->bytes, bytes, len);
    if (up->bytes.failed || up->ends.failed)
        return -ENOMEM;
    up->n_parts++;
    if (queued)
        up->queued_parts = up->n_parts;
    up->digest += digest;
    s->digest += digest;
    charge(s, ss, len + PART_COST);
    s->part_bytes += len;
    return 0;
}

/* up: NULL if this is its first part. */
static int admit(const struct store *s, const struct session *ss, const struct upload *up, size_t len,
                 const char **why_out)
{
    uint64_t one = s->settings.number[SETTING_VALUE_LIMIT] + BODY_SLACK;
    uint64_t full = one + one / 1024 + UPLOAD_COST; /* what the longest is charged */
    uint64_t all = 4 * full > ALL_MIN ? 4 * full : ALL_MIN;
    uint64_t cost = len + PART_COST + (up == NULL ? UPLOAD_COST : 0);

    *why_out = NULL;
    if ((up != NULL ? parts_len(up) : 0) + len > one)
        return KV_E_FBIG;
    if (ss->upload_cost + cost > 2 * full)
        *why_out = "unfinished writes of this mount take twice the longest value";
    else if (owner_is_user(ss->owner) && ss->owner->upload_cost + cost > all / 4)
        *why_out = "unfinished writes of this user take a quarter of the room for all";
    else if (owner_is_user(ss->owner) && s->users.upload_cost + cost > all - all / 4)
        *why_out = "unfinished writes take all the room but what is kept for root";
    else if (ss->owner->uid == 0 && ss->owner->upload_cost + cost > all - all / 4)
        *why_out = "unfinished writes of root take three quarters of the room for all";
    else if (ss->owner->uid != COMMAND_UID_NODE && s->upload_cost + cost > all)
        *why_out = "unfinished writes take all the room for them";
    return *why_out != NULL ? KV_E_BUSY : KV_OK;
}

int store_part_check(const struct store *s, uint64_t session, uint64_t seq, uint32_t number, size_t len,
                     const char **why_out)
{
    const struct session *ss = session_find(s, session);
    const struct upload *up = ss != NULL ? session_upload(ss, seq) : NULL;

    *why_out = NULL;
    if (up != NULL && number < up->n_parts)
        return KV_E_DUPLICATE;
    if (ss == NULL || up != NULL || number > 0 || seq < ss->acked_below)
        return KV_OK;
    return admit(s, ss, up, len, why_out) == KV_E_BUSY ? KV_E_BUSY : KV_OK;
}

int session_part(struct store *s, struct session *ss, uint64_t seq, uint32_t number, const void *bytes,
                 size_t len)
{
    struct upload *up = session_upload(ss, seq);
    uint32_t present = up != NULL ? up->n_parts : 0;
    const char *why;
    int rv;

    /* Whatever its number: a late repetition of part 0 must not begin anew what has
     * gone on meanwhile. The body of a number never changes. */
    if (number < present)
        return KV_OK;
    if (number > present)
        return KV_E_PART;
    rv = admit(s, ss, up, len, &why);
    if (rv != KV_OK) {
        if (up != NULL)
            session_drop_upload(s, ss, up);
        return rv;
    }
    rv = session_add_part(s, ss, seq, number, bytes, len, false);
    if (rv == 0)
        journal_upload(s->journal, session_upload(ss, seq), len);
    return rv;
}
