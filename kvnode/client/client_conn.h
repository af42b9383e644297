/* One connected client, as the request handlers see it. Internal to serve*.c and
 * past.c. Loop thread only. */
#ifndef KVFS_KVNODE_CLIENT_CLIENT_CONN_H
#define KVFS_KVNODE_CLIENT_CLIENT_CONN_H

#include "kvnode/client/client_user.h"
#include "kvnode/group/reserve.h"
#include "kvnode/client/serve.h"
#include "kvnode/config/config.h"
#include "kvnode/group/group.h"
#include "kvnode/loop/stream.h"
#include "kvnode/peer/self.h"
#include "sync/wire/body.h"

struct serve;
struct subscriber;

struct client_conn {
    const struct serve_owner *owner; /* borrowed, from serve */
    struct serve *serve;             /* borrowed */
    struct client_user *user;
    const char *refusal;   /* one too many: what it is told, or NULL */
    struct stream *stream; /* NULL once closed */
    unsigned refs;         /* the stream's and one a request under way */
    unsigned requests;     /* under way */
    size_t promised;       /* bytes that their answers may have */
    bool paused;           /* not read from: too much is under way, or `held` */
    bool held;             /* clients together hold too much, and this one a part of it */
    uint64_t opened_ms;
    bool hello;
    enum client_kind kind;
    uint16_t protocol; /* 1…MESSAGE_PROTOCOL: the form of attributes in answers */
    char name[64];
    struct caller who;
    uint32_t groups[COMMAND_GROUPS_MAX];
    struct open_inode *open;
    const char *why; /* the last read was refused, KV_E_BUSY */
    struct reservation reservation;
    struct subscriber *subscriber;
    struct mount *mount; /* it caches what it is told; NULL: not */
    struct {
        uint64_t revision, directory;
        unsigned mask;
    } sight;                  /* of the last event that was redacted */
    struct serve_local local; /* of one in this process */
    struct client_conn *next; /* in serve's list */
};

/* A request that is answered later. */
struct request {
    struct client_conn *conn; /* a reference */
    uint64_t id;
    uint8_t type;
    size_t promised;            /* bytes that the answer may have */
    size_t written;             /* bytes that a write under way is charged, 0: it is none */
    bool locks;                 /* a LOCK: KV_E_BUSY, which leaves nothing behind, is told as a refusal */
    struct client_user *writer; /* a reference: whom; NULL: nobody */
    uint8_t *payload;           /* owned copy, which body borrows from; NULL: it is not kept */
    union request_body body;
};

/* A reference goes. */
void client_conn_put(struct client_conn *c);
/* Reads from it or not, by what is under way. */
void client_conn_pace(struct client_conn *c);

/* body: decoded from the frame. NULL: out of memory. */
struct request *request_new(struct client_conn *conn, const struct frame *frame,
                            const union request_body *body);
/* The same, and the request has its payload and body for itself. */
struct request *request_keep(struct client_conn *conn, const struct frame *frame,
                             const union request_body *body);
/* The request is over; frees it. */
void request_end(struct request *r);

/* Begins an answer: code 0 and room for the body. NULL: the client has gone. */
struct buffer *answer_begin(struct client_conn *conn, uint64_t id, size_t *at_out);
/* Ends it: code other than 0 drops the body and says detail (may be NULL) instead. */
void answer_end(struct client_conn *conn, size_t at, int code, const char *detail);
void answer_code(struct client_conn *conn, uint64_t id, int code, const char *detail);

/* Any request. 0, or a negative errno: close. */
int serve_request(struct client_conn *conn, const struct frame *frame);
/* A WRITE: likewise. */
int serve_write(struct client_conn *conn, const struct frame *frame, const union request_body *body);
/* Whether the client has the inode open with these bits of access (0: at all). */
bool client_has_open(const struct client_conn *c, uint64_t ino, unsigned access);

/* Takes out of an event what the client (a struct client_conn) could not list or look up.
 * Inode numbers stay: its caches have to forget what they tell of. */
void client_redact(void *conn, struct event *event);

/* Answers a read from memory. Appends to out; returns an enum kv_error. */
int serve_read(struct client_conn *conn, uint8_t type, const union request_body *in, struct buffer *out);
/* Whether the type is a read from memory. */
bool serve_is_read(uint8_t type);

#endif
