/* A question about the past on its way: past.c has it asked, past_read.c reads what it needs (a worker's
 * thread), past_answer.c answers it. Internal to these. */
#ifndef KVFS_KVNODE_CLIENT_PAST_QUESTION_H
#define KVFS_KVNODE_CLIENT_PAST_QUESTION_H

#include <sys/queue.h>

#include "kvnode/client/client_conn.h"
#include "kvnode/disk/history.h"
#include "sync/wire/layout.h"

/* What pages of the operation log have: their paths are made on the loop. */
#define LOG_BYTES (256 * 1024)
/* For the directory of a place in the log: behind the whole revision. */
#define WHOLE UINT64_MAX

struct question {
    struct past *past;       /* borrowed */
    struct request *request; /* keeps what it was asked */
    uint64_t flushed;        /* the revision that has to be in state.db */
    /* Of the request. */
    uint64_t ino; /* of the directory */
    uint64_t directory, number, offset;
    uint32_t n;
    bool local;        /* PAST_LOCAL */
    struct bytes name; /* in the request */
    bool has_cursor;   /* LOG: number, directory and name are the row behind which it goes on */
    /* Filled by the worker. */
    bool done;
    int code;
    bool more;
    uint32_t count;
    uint64_t last;                /* LOG: revision of the last row */
    uint64_t dropped;             /* LOG: of history_log() */
    struct version_row row;       /* VERSION */
    struct history_guards guards; /* VERSION: whose permission it needs */
    struct buffer labels;         /* HISTORY, LOG: labels_put() of each row */
    bool labelled;                /* one has one */
    struct buffer rows; /* of the answer; LOG: struct history_entry, by question_entry; VERSION: the data */
    STAILQ_ENTRY(question) link;
};

/* A row of the log, with directories by their history ids; the loop makes paths of them. */
extern const struct layout question_entry;

/* A cursor of the log: struct history_place behind a revision. */
struct place {
    uint64_t revision, directory;
    struct bytes name;
};
extern const struct layout place_layout;

/* Reads what is asked for. On the worker. */
void question_read(struct question *q, struct history_reader *reader);
/* Answers it, if its client is still there: with q->code, or what was read. On the loop. */
void question_answer(struct question *q);

#endif
