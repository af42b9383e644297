#include "kvnode/web/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/client/past.h"
#include "kvnode/group/group.h"
#include "kvnode/loop/turn.h"
#include "kvnode/web/gate_internal.h"
#include "sync/base/error.h"

#define PAGE 200
/* Of one who catches up, for whom alone it is made into text. */
#define PAGE_ALONE 50

struct feed_row {
    struct log_row row; /* in page.bytes */
    bool last;
    struct buffer text; /* as the first who wanted it has made it */
};

/* What the reader has read, until all who have joined have it. */
struct page {
    struct buffer bytes;   /* the answer's rows */
    struct feed_row *rows; /* owned */
    uint32_t n;
    uint64_t gap_after, gap_until;
    uint64_t until; /* all up to it is told by then, or 0 */
    bool more;
};

struct feed {
    struct gate *gate; /* a reference */
    struct gate_call call;
    uint64_t after; /* all up to it has been handed to those who have joined */
    uint64_t read;  /* the last revision that was read, which may be on its way to them */
    struct buffer cursor;
    struct page page;
    bool handing;          /* the page is on its way to those who have joined */
    struct follower *next; /* who has it next; NULL: all have it */
    bool known;            /* where it is */
    bool asking;           /* a page, or where it is; until all have the page */
    bool pending;          /* something has changed since it asked */
    unsigned refs;         /* followers, and those who walk them */
    LIST_HEAD(, follower) followers;
};

static void ask_page(struct feed *d);
static void catch_up(struct follower *f);

static void page_free(struct page *p)
{
    uint32_t i;

    for (i = 0; i < p->n; i++)
        buffer_deinit(&p->rows[i].text);
    free(p->rows);
    buffer_deinit(&p->bytes);
    *p = (struct page){0};
}

static void put(struct feed *d)
{
    struct gate *g = d->gate;

    if (--d->refs > 0)
        return;
    if (g->feed == d)
        g->feed = NULL;
    gate_cancel(&d->call);
    page_free(&d->page);
    buffer_deinit(&d->cursor);
    free(d);
    gate_put(g);
}

void feed_leave(struct follower *f)
{
    struct feed *d = f->feed;

    if (d == NULL)
        return;
    f->feed = NULL;
    gate_cancel(&f->call);
    buffer_deinit(&f->cursor);
    if (d->next == f)
        d->next = LIST_NEXT(f, link);
    LIST_REMOVE(f, link);
    put(d);
}

void feed_end(struct feed *d)
{
    struct follower *f;

    if (d->gate->feed == d)
        d->gate->feed = NULL; /* who comes now gets a new one */
    d->refs++;
    while ((f = LIST_FIRST(&d->followers)) != NULL) {
        feed_leave(f);
        f->end(f->arg);
    }
    put(d);
}

static void ask_log(struct gate *g, struct gate_call *call, uint32_t n, uint64_t after,
                    const struct buffer *cursor, gate_done *done, void *arg)
{
    union request_body ask = {0};

    ask.log = (struct log_request){.after = after,
                                   .n = n | PAST_LOCAL,
                                   .has_cursor = true,
                                   .cursor = bytes_of(cursor->data, cursor->len)};
    gate_ask(g, call, MESSAGE_LOG, &ask, done, arg);
}

/* Decodes a page; p is empty. False: out of memory. */
static bool page_take(struct page *p, const struct log_answer *answer)
{
    struct cursor c, labels;
    uint32_t i;

    buffer_put_bytes(&p->bytes, answer->rows.bytes.data, answer->rows.bytes.len);
    p->rows = calloc(answer->rows.count + 1, sizeof *p->rows);
    if (p->rows == NULL || p->bytes.failed) {
        page_free(p);
        return false;
    }
    p->n = answer->rows.count;
    p->gap_after = answer->gap_after;
    p->gap_until = answer->gap_until;
    p->more = answer->more != 0;
    c = cursor_of(p->bytes.data, p->bytes.len);
    labels = cursor_of(answer->labels.data, answer->labels.len);
    for (i = 0; i < p->n; i++) {
        log_row_decode(&c, &p->rows[i].row);
        labels_next(&labels, &p->rows[i].row.row);
        if (i > 0)
            p->rows[i - 1].last = p->rows[i].row.row.revision != p->rows[i - 1].row.row.revision;
    }
    if (p->n > 0)
        p->rows[p->n - 1].last = !p->more;
    if (!p->more && p->n > 0)
        p->until = p->rows[p->n - 1].row.row.revision;
    return true;
}

/* The last row's; 0: there is none. */
static uint64_t last_revision(const struct page *p)
{
    return p->n > 0 ? p->rows[p->n - 1].row.row.revision : 0;
}

/* Hands a page to one, but for what it has. False: it has taken as much as it can, up to f->after. */
static bool hand(struct follower *f, struct page *p, bool all)
{
    uint64_t after = f->after;
    bool took = true;
    uint32_t i;

    if (p->gap_until > f->after)
        f->gap(f->arg, p->gap_after, p->gap_until);
    for (i = 0; i < p->n; i++) {
        struct feed_row *r = &p->rows[i];

        if (r->row.row.revision <= after)
            continue;
        took = all || f->ready(f->arg, true);
        if (!took)
            break;
        f->row(f->arg, &r->row, r->last, &r->text);
        if (r->last)
            f->after = r->row.row.revision;
    }
    f->flush(f->arg);
    return took;
}

static void set_cursor(struct buffer *to, const struct bytes *from)
{
    buffer_clear(to);
    buffer_put_bytes(to, from->data, from->len);
}

/* Those who have joined have the page. */
static void end_page(struct feed *d)
{
    bool more = d->page.more;

    if (d->page.until > d->after)
        d->after = d->page.until;
    page_free(&d->page);
    d->asking = false;
    if (more || d->pending)
        ask_page(d);
}

bool feed_turn(struct feed *d, uint64_t until_ns)
{
    struct follower *f;
    bool first = true;

    if (!d->handing)
        return false;
    while ((f = d->next) != NULL && (first || !turn_time_is_up(until_ns))) {
        d->next = LIST_NEXT(f, link);
        if (!f->joined)
            continue;
        first = false;
        if (d->after > f->after)
            f->after = d->after;
        if (f->ready(f->arg, false) && hand(f, &d->page, false))
            continue;
        /* It goes on by itself, from the last revision of which it has all. */
        f->joined = false;
        f->held = true;
        buffer_clear(&f->cursor);
    }
    if (d->next != NULL)
        return true;
    d->handing = false;
    end_page(d);
    return false;
}

static void on_page(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct feed *d = arg;

    (void)detail;
    if (code != KV_OK || !page_take(&d->page, &answer->log)) {
        d->asking = false;
        feed_end(d);
        return;
    }
    set_cursor(&d->cursor, &answer->log.cursor);
    if (last_revision(&d->page) > d->read)
        d->read = last_revision(&d->page);
    if (d->page.n == 0 && d->page.gap_until == 0) {
        end_page(d);
        return;
    }
    d->handing = true;
    d->next = LIST_FIRST(&d->followers);
    d->gate->all->feeding = true; /* at the end of this turn */
}

static void ask_page(struct feed *d)
{
    d->asking = true;
    d->pending = false;
    ask_log(d->gate, &d->call, PAGE, d->after, &d->cursor, on_page, d);
}

void feed_wake(struct feed *d)
{
    d->pending = true;
    if (d->known && !d->asking)
        ask_page(d);
}

static void on_caught(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct follower *f = arg;
    struct feed *d = f->feed;
    struct page page = {0};
    uint64_t covered = 0;

    (void)detail;
    if (code != KV_OK || !page_take(&page, &answer->log)) {
        feed_leave(f);
        f->end(f->arg);
        return;
    }
    hand(f, &page, true);
    set_cursor(&f->cursor, &answer->log.cursor);
    if (!page.more) {
        /* Revisions without a row that he may see are the rule, so the last row says little. */
        covered = past_covered(&answer->log.cursor);
        if (page.until > covered)
            covered = page.until;
        if (covered > f->after)
            f->after = covered; /* what the feed hands on from here on is not told twice */
    }
    if (page.more || (f->after < d->read && covered >= f->asked)) {
        catch_up(f);
    } else if (f->after < d->read) {
        f->held = true; /* what a full disk keeps from the log: the next heartbeat asks again */
    } else {
        f->joined = true;
        feed_wake(d); /* what has come since then */
    }
    page_free(&page);
}

static void catch_up(struct follower *f)
{
    f->held = !f->ready(f->arg, false);
    if (f->held)
        return;
    f->asked = f->feed->read;
    ask_log(f->feed->gate, &f->call, PAGE_ALONE, f->after, &f->cursor, on_caught, f);
}

void feed_more(struct follower *f)
{
    if (f->feed != NULL && f->held && f->feed->known)
        catch_up(f);
}

static void on_place(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct feed *d = arg;
    struct follower *f;

    (void)detail;
    d->asking = false;
    if (code != KV_OK) {
        feed_end(d);
        return;
    }
    d->known = true;
    d->after = d->read = answer->barrier.revision;
    LIST_FOREACH (f, &d->followers, link) {
        if (!f->from_now) {
            catch_up(f);
            continue;
        }
        f->after = d->after;
        f->joined = true;
    }
    if (d->pending)
        ask_page(d);
}

static void on_subscribed(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct gate *g = arg;

    (void)answer;
    (void)detail;
    if (code == KV_OK)
        return;
    g->subscribed = false; /* the next feed asks again */
    if (g->feed != NULL)
        feed_end(g->feed);
}

static struct feed *feed_new(struct gate *g)
{
    struct feed *d = calloc(1, sizeof *d);
    union request_body ask = {.subscribe = {.after = store_applied(g->all->group->store)}};

    if (d == NULL)
        return NULL;
    d->gate = gate_ref(g);
    LIST_INIT(&d->followers);
    d->asking = true;
    g->feed = d;
    /* A connection has one subscription, which stays. */
    if (!g->subscribed)
        gate_ask(g, &g->subscription, MESSAGE_SUBSCRIBE, &ask, on_subscribed, g);
    g->subscribed = true;
    gate_ask(g, &d->call, MESSAGE_BARRIER, NULL, on_place, d);
    return d;
}

bool feed_follow(struct gate *g, struct follower *f)
{
    struct feed *d = g->feed != NULL ? g->feed : feed_new(g);

    if (d == NULL)
        return false;
    d->refs++;
    f->feed = d;
    f->joined = false;
    LIST_INSERT_HEAD(&d->followers, f, link);
    if (d->known && f->from_now) {
        f->after = d->read;
        f->joined = true;
    } else if (d->known) {
        catch_up(f);
    }
    return true;
}
