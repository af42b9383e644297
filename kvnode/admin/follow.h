/* The operation log from a place on, row by row, and through the death of nodes: what log, watch and bench
 * read.
 *
 * A subscription only says that something happened; the rows are always read
 * from the log behind the last one handed out, so none is lost or doubled. Where that was is
 * known by the log's own cursor, which means the same to every node: whoever follows goes
 * on at the next node when his own dies, and waits for one if there is none: for as long as it takes,
 * or with --timeout until there has been none that could be read for so long.
 *
 * Rows go with the history of their names (max_dead_names). Who comes late is told between which
 * revisions some are missing, once, before the rows that are there. */
#ifndef KVFS_KVNODE_ADMIN_FOLLOW_H
#define KVFS_KVNODE_ADMIN_FOLLOW_H

#include "kvnode/admin/request.h"

struct follow {
    struct request_link *link; /* borrowed */
    uint32_t page;             /* rows a request */
    /* Where it is: */
    uint64_t after;                 /* revision from behind which it was to be read */
    uint8_t cursor[LOG_CURSOR_MAX]; /* the node's; empty at first */
    size_t len;
    uint64_t covered; /* all up to this revision was handed out; not below `after` */
    /* The owner's. Those that return an int end it with another value than 0: a KV_E_*, an -errno, or
     * FOLLOW_END. */
    /* last: no other row of its revision follows. A row whose revision was handed out in part before
     * something failed comes again. */
    int (*row)(void *arg, const struct log_row *row, bool last);
    int (*gap)(void *arg, uint64_t after, uint64_t until);
    int (*page_end)(void *arg);  /* rows were handed out; NULL: not asked */
    int (*idle)(void *arg);      /* there is no more for now, at least every LOOK_AGAIN_MS; NULL: not asked */
    int (*extra_fd)(void *arg);  /* what else is waited for, to be read; -1, NULL: nothing */
    unsigned (*wait)(void *arg); /* at most so many ms until idle(); NULL */
    void *arg;
};

#define FOLLOW_END 10000

/* Reads all rows behind the place and moves it, row by row: what was handed out is not handed out
 * again, whatever happens next. 0, KV_E_*, -errno, FOLLOW_END. */
int follow_read(struct follow *f);
/* Hands out rows as they come. 0: standard output is closed, or FOLLOW_END; KV_E_*, -errno: what is beyond
 * waiting. */
int follow_run(struct follow *f);
/* The newest revision; with --local the newest that the node has applied. 0, KV_E_*, -errno. */
int follow_newest(struct request_link *l, uint64_t *revision_out);
/* --since, which may be a token: EXIT_OK, or EXIT_USAGE after a message: it is none, or one of another
 * cluster than the link's. */
int follow_since(const struct request_link *l, const char *text, uint64_t *after_out);
/* Whether a row's key is this one or below it; below: "" for all. */
bool follow_concerns(const char *below, const struct log_row *row);

#endif
