#include "kvnode/web/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/group/group.h"
#include "kvnode/web/gate_internal.h"
#include "sync/base/error.h"

#define PAGE 200

struct feed {
    struct gate *gate; /* a reference */
    struct gate_call subscription, call;
    uint64_t after; /* all up to it has been handed to those who have joined */
    struct buffer cursor;
    bool known;    /* where it is */
    bool asking;   /* a page, or where it is */
    bool pending;  /* something has changed since it asked */
    unsigned refs; /* followers, and those who walk them */
    LIST_HEAD(, follower) followers;
};

static void ask_page(struct feed *d);
static void catch_up(struct follower *f);

static void put(struct feed *d)
{
    struct gate *g = d->gate;

    if (--d->refs > 0)
        return;
    if (g->feed == d)
        g->feed = NULL;
    gate_cancel(&d->call);
    gate_cancel(&d->subscription);
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

static void ask_log(struct gate *g, struct gate_call *call, uint64_t after, const struct buffer *cursor,
                    gate_done *done, void *arg)
{
    union request_body ask = {0};

    ask.log = (struct log_request){.after = after,
                                   .n = PAGE | PAST_LOCAL,
                                   .has_cursor = true,
                                   .cursor = bytes_of(cursor->data, cursor->len)};
    gate_ask(g, call, MESSAGE_LOG, &ask, done, arg);
}

/* Hands a page to one, but for what it has; the revision of the last row, or 0. */
static uint64_t hand(struct follower *f, const struct log_answer *page)
{
    struct cursor c = rows_cursor(&page->rows);
    struct log_row row, next;
    uint64_t last = 0;
    uint32_t i;

    if (page->gap_until > f->after)
        f->gap(f->arg, page->gap_after, page->gap_until);
    for (i = 0; i < page->rows.count; i++) {
        bool more = i + 1 < page->rows.count, ends;

        if (i == 0)
            log_row_decode(&c, &row);
        if (more)
            log_row_decode(&c, &next);
        ends = more ? next.row.revision != row.row.revision : page->more == 0;
        if (row.row.revision > f->after)
            f->row(f->arg, &row, ends);
        last = row.row.revision;
        row = next;
    }
    f->flush(f->arg);
    return last;
}

static void set_cursor(struct buffer *to, const struct bytes *from)
{
    buffer_clear(to);
    buffer_put_bytes(to, from->data, from->len);
}

/* The last row's. */
static uint64_t last_revision(const struct log_answer *page)
{
    struct cursor c = rows_cursor(&page->rows);
    struct log_row row;
    uint64_t last = 0;
    uint32_t i;

    for (i = 0; i < page->rows.count; i++) {
        log_row_decode(&c, &row);
        last = row.row.revision;
    }
    return last;
}

static void on_page(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct feed *d = arg;
    struct follower *f;
    uint64_t last;

    (void)detail;
    d->asking = false;
    if (code != KV_OK) {
        feed_end(d);
        return;
    }
    last = last_revision(&answer->log);
    LIST_FOREACH (f, &d->followers, link) {
        if (!f->joined)
            continue;
        if (f->ready(f->arg)) {
            hand(f, &answer->log);
            continue;
        }
        /* It goes on by itself, from the last revision of which it has all. */
        f->joined = false;
        f->held = true;
        if (d->after > f->after)
            f->after = d->after;
        buffer_clear(&f->cursor);
    }
    set_cursor(&d->cursor, &answer->log.cursor);
    if (answer->log.more == 0 && last > d->after)
        d->after = last;
    if (answer->log.more || d->pending)
        ask_page(d);
}

static void ask_page(struct feed *d)
{
    d->asking = true;
    d->pending = false;
    ask_log(d->gate, &d->call, d->after, &d->cursor, on_page, d);
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
    uint64_t last;

    (void)detail;
    if (code != KV_OK) {
        feed_leave(f);
        f->end(f->arg);
        return;
    }
    last = hand(f, &answer->log);
    set_cursor(&f->cursor, &answer->log.cursor);
    if (answer->log.more == 0 && last > f->after)
        f->after =
            last; /* of it all has been told, and what the feed hands on from here on is not told twice */
    if (answer->log.more == 0 && f->after >= d->after) {
        f->joined = true;
        feed_wake(d); /* what has come since then */
    } else {
        catch_up(f);
    }
}

static void catch_up(struct follower *f)
{
    f->held = !f->ready(f->arg);
    if (!f->held)
        ask_log(f->feed->gate, &f->call, f->after, &f->cursor, on_caught, f);
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
    d->after = answer->barrier.revision;
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
    (void)answer;
    (void)detail;
    if (code != KV_OK)
        feed_end(arg);
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
        gate_ask(g, &d->subscription, MESSAGE_SUBSCRIBE, &ask, on_subscribed, d);
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
        f->after = d->after;
        f->joined = true;
    } else if (d->known) {
        catch_up(f);
    }
    return true;
}
