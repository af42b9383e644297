#include "kvnode/admin/follow.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/token.h"

/* A node that has lost its majority sends no events: so often it is asked whether it can say what is newest.
 */
#define LOOK_AGAIN_MS 2000
#define FIND_AGAIN_MS 500

int follow_newest(struct request_link *l, uint64_t *revision_out)
{
    union answer_body answer;
    json_t *status;
    if (l->admin->opt[OPT_LOCAL] != NULL) {
        int rc = cluster_status(l, &status);
        if (rc == 0)
            *revision_out = (uint64_t)cluster_number(status, "applied");
        json_decref(status);
        return rc;
    }
    int rc = request_ask(l, MESSAGE_BARRIER, NULL, &answer);
    if (rc == 0)
        *revision_out = answer.barrier.revision;
    return rc;
}

int follow_since(const struct request_link *l, const char *text, uint64_t *after_out)
{
    uint64_t cluster = 0;
    if (!admin_parse_number(text, 0, INT64_MAX, after_out) &&
        !place_token_parse(text, strlen(text), &cluster, after_out))
        return admin_usage(l->admin, "--since %s: use a token, or a revision such as 0-123", text);
    if (cluster != 0 && cluster != l->node.cluster_id)
        return admin_usage(l->admin,
                           "--since %s: this token is of another cluster (%016llx); that of node %s is "
                           "%016llx. Begin with --initial",
                           text, (unsigned long long)cluster, l->node.name,
                           (unsigned long long)l->node.cluster_id);
    return EXIT_OK;
}

static bool is_below(const char *below, const uint8_t *key, size_t len)
{
    while (*below == '/')
        below++;
    size_t n = strlen(below);
    while (n > 0 && below[n - 1] == '/')
        n--;
    return n == 0 || (len >= n && memcmp(key, below, n) == 0 && (len == n || key[n] == '/'));
}

bool follow_concerns(const char *below, const struct log_row *row)
{
    return is_below(below, row->key, row->key_len) || is_below(below, row->from, row->from_len);
}

static bool take_cursor(const struct bytes *cursor, struct follow *f)
{
    if (cursor->len == 0 || cursor->len > sizeof f->cursor)
        return false;
    memcpy(f->cursor, cursor->data, cursor->len);
    f->len = cursor->len;
    return true;
}

/* Rows, labels and cursor are copies: whoever takes a row may ask the node for more. */
struct page {
    struct buffer bytes;
    struct bytes rows, labels, cursor;
    uint32_t count;
};

static bool page_copy(struct page *p, const struct log_answer *from)
{
    const struct bytes *parts[] = {&from->rows.bytes, &from->labels, &from->cursor};
    struct bytes *to[] = {&p->rows, &p->labels, &p->cursor};
    buffer_clear(&p->bytes);
    for (int i = 0; i < 3; i++)
        buffer_put_bytes(&p->bytes, parts[i]->data, parts[i]->len);
    for (size_t i = 0, at = 0; i < 3 && !p->bytes.failed; i++) {
        *to[i] = bytes_of(p->bytes.data + at, parts[i]->len);
        at += parts[i]->len;
    }
    p->count = from->rows.count;
    return !p->bytes.failed;
}

static void decode(struct cursor *rows, struct cursor *labels, struct log_row *r_out)
{
    log_row_decode(rows, r_out);
    labels_next(labels, &r_out->row);
}

static int hand_out(struct follow *f, const struct page *p, bool more)
{
    struct cursor rows = cursor_of(p->rows.data, p->rows.len);
    struct cursor labels = cursor_of(p->labels.data, p->labels.len);
    struct log_row r, next = {0};
    for (uint32_t i = 0; i < p->count; i++, r = next) {
        if (i == 0)
            decode(&rows, &labels, &r);
        if (i + 1 < p->count)
            decode(&rows, &labels, &next);
        uint64_t revision = r.row.revision;
        if (revision <= f->covered)
            continue; /* a page that was interrupted */
        bool last = i + 1 < p->count ? next.row.revision != revision : !more;
        f->covered = revision - 1; /* all rows of those before are out */
        int rc = f->row(f->arg, &r, last);
        if (rc != 0)
            return rc;
        if (last)
            f->covered = revision;
    }
    return take_cursor(&p->cursor, f) ? 0 : -EPROTO;
}

/* local: what this node has is enough: it has said that there is something. */
static int read_page(struct follow *f, bool local, struct page *p, bool *more_out)
{
    struct request_link *l = f->link;
    const union request_body body = {.log = {.after = f->after,
                                             .n = request_rows(l, f->page) | (local ? PAST_LOCAL : 0),
                                             .has_cursor = true,
                                             .cursor = bytes_of(f->cursor, f->len)}};
    union answer_body answer;
    /* Nothing of a page is handed out before its end is known to be whole. */
    int rc = request_ask(l, MESSAGE_LOG, &body, &answer);
    if (rc != 0)
        return rc;
    *more_out = answer.log.more != 0;
    if (!page_copy(p, &answer.log))
        return -ENOMEM;
    if (answer.log.gap_until > 0)
        rc = f->gap(f->arg, answer.log.gap_after, answer.log.gap_until);
    if (rc == 0)
        rc = hand_out(f, p, *more_out);
    if (rc == 0 && p->count > 0 && f->page_end != NULL)
        rc = f->page_end(f->arg);
    request_restart_clock(l);
    return rc;
}

static int read_all(struct follow *f, bool local)
{
    struct page page = {.bytes = BUFFER_INIT};
    bool more = true;
    int rc = 0;
    while (rc == 0 && more)
        rc = read_page(f, local, &page, &more);
    buffer_deinit(&page.bytes);
    return rc;
}

int follow_read(struct follow *f)
{
    return read_all(f, false);
}

/* Whether it is the node that failed, and another one, or it itself later, may do. */
static bool may_pass(int rc)
{
    return rc == -ECONNRESET || rc == -EPIPE || rc == -ECONNREFUSED || rc == -ENOENT || rc == -ETIMEDOUT ||
           rc == KV_E_UNAVAILABLE || rc == KV_E_NOTLEADER || rc == KV_E_BUSY;
}

/* Events are only the sign that there is something to be read. */
static int subscribe(struct follow *f)
{
    const union request_body body = {.subscribe = {.after = f->covered, .has_sparse = true, .sparse = 1}};
    union answer_body answer;
    return request_ask(f->link, MESSAGE_SUBSCRIBE, &body, &answer);
}

/* since_ms: of the last word of any node. */
static bool is_over(const struct request_link *l, uint64_t since_ms)
{
    return l->admin->opt[OPT_TIMEOUT] != NULL && clock_boot_ms() - since_ms >= l->admin->timeout_ms;
}

/* Waits for any node. -ETIMEDOUT: for too long. */
static int find_node(struct request_link *l, uint64_t cluster, uint64_t since_ms)
{
    bool told = false;
    for (;;) {
        int rc = request_reconnect(l);
        if (rc == 0 && l->node.cluster_id != cluster) {
            admin_say(l->admin, "kvnode: node %s belongs to another cluster now", l->node.name);
            return -EPROTO;
        }
        if (rc == 0) {
            admin_say(l->admin, "kvnode: going on at node %s", l->node.name);
            return 0;
        }
        if (!told)
            admin_say(l->admin, "kvnode: no node answers (%s); waiting for one", l->detail);
        told = true;
        if (is_over(l, since_ms))
            return -ETIMEDOUT;
        request_pause(FIND_AGAIN_MS);
    }
}

static unsigned until(uint64_t then_ms)
{
    uint64_t now = clock_boot_ms();
    return now < then_ms ? (unsigned)(then_ms - now) : 0;
}

/* Until the node says something, what else is waited for is there, or it is time. *woken: the node did. */
static int wait_more(struct follow *f, uint64_t look_ms, bool *woken)
{
    struct client *c = f->link->client;
    unsigned ms = until(look_ms), most = f->wait != NULL ? f->wait(f->arg) : UINT32_MAX;
    int extra = f->extra_fd != NULL ? f->extra_fd(f->arg) : -1;
    struct frame frame;
    *woken = client_dropped(c);
    int left = client_flush(c), rc;
    if (left < 0)
        return left;
    while ((rc = client_next(c, &frame)) == 1)
        *woken = true;
    if (rc < 0 || *woken)
        return rc;
    struct pollfd fds[] = {{.fd = client_fd(c), .events = (short)(POLLIN | (left > 0 ? POLLOUT : 0))},
                           {.fd = extra, .events = POLLIN}};
    if (poll(fds, 2, (int)(ms < most ? ms : most)) < 0 && errno != EINTR)
        return -errno;
    if (fds[0].revents == 0)
        return 0;
    while ((rc = client_next(c, &frame)) == 1)
        *woken = true;
    return rc;
}

/* Reads what there is to be read, by the newest revision that the cluster knows of. */
static int look(struct follow *f)
{
    uint64_t newest = 0;
    request_restart_clock(f->link); /* what was waited for is no silence */
    int rc = follow_newest(f->link, &newest);
    if (rc == 0 && (newest > f->covered || f->len == 0))
        rc = read_all(f, false);
    if (rc == 0 && newest > f->covered)
        f->covered = newest;
    request_restart_clock(f->link);
    return rc;
}

/* One round: reads, says that there is no more, waits. */
static int round_of(struct follow *f, uint64_t *look_ms, bool *woken)
{
    int rc = 0;
    if (*woken) {
        request_restart_clock(f->link);
        rc = read_all(f, true);
    } else if (until(*look_ms) == 0) {
        rc = look(f);
        *look_ms = clock_boot_ms() + LOOK_AGAIN_MS;
    }
    if (fflush(stdout) != 0)
        return FOLLOW_END; /* the reader has gone */
    if (rc == 0 && f->idle != NULL)
        rc = f->idle(f->arg);
    return rc == 0 ? wait_more(f, *look_ms, woken) : rc;
}

int follow_run(struct follow *f)
{
    struct request_link *l = f->link;
    const uint64_t cluster = l->node.cluster_id;
    uint64_t heard_ms = clock_boot_ms(), look_ms = 0;
    unsigned failures = 0; /* since then */
    bool woken = false;
    l->no_repeat = true; /* a new connection needs its own subscription */
    int rc = subscribe(f);
    for (;;) {
        if (rc == 0)
            rc = round_of(f, &look_ms, &woken);
        if (rc == 0) {
            heard_ms = clock_boot_ms();
            failures = 0;
            continue;
        }
        /* A node that waits for people is not waited for. */
        if (rc == FOLLOW_END || !may_pass(rc) || l->way_back[0] != '\0')
            return rc == FOLLOW_END ? 0 : rc;
        if (l->client != NULL)
            admin_say(l->admin, "kvnode: node %s: %s", l->node.name, rc > 0 ? error_text(rc) : strerror(-rc));
        /* One that stands still has taken all the time there was; another one may answer at once. */
        if (failures++ > 0 && is_over(l, heard_ms))
            return rc;
        rc = find_node(l, cluster, heard_ms);
        if (rc != 0)
            return rc;
        look_ms = 0;
        woken = false;
        rc = subscribe(f);
    }
}
