/* Internal to kvnode/web: a listener, a connection, a request. */
#ifndef KVFS_KVNODE_WEB_WEB_INTERNAL_H
#define KVFS_KVNODE_WEB_WEB_INTERNAL_H

#include <jansson.h>
#include <microhttpd.h>
#include <sys/queue.h>
#include <uv.h>

#include "kvnode/web/gate.h"
#include "kvnode/web/pulse.h"
#include "kvnode/web/token.h"
#include "kvnode/web/url.h"
#include "kvnode/web/web.h"

/* What one user who is not trusted may have of what all together may have. */
#define WEB_CONNECTIONS_MAX 2048
#define WEB_CONNECTIONS_SHARE 1024
#define WEB_UPLOAD_MAX (256UL * 1024 * 1024) /* bytes of bodies that are coming in */
#define WEB_UPLOAD_SHARE (128UL * 1024 * 1024)
#define WEB_IDLE_S 60
#define WEB_BEGIN_MIN 16 /* requests that begin in a turn whatever the time */
#define WEB_BEGIN_NS 2000000
#define WEB_PIECE (256 * 1024) /* of a long value on its way out */

/* What one user has of it. */
struct web_user {
    uint32_t uid;
    bool trusted;
    unsigned connections; /* and lookups */
    unsigned lookups;     /* of his account, under way */
    size_t upload;
    UT_hash_handle hh;
};

#define WEB_OPS 6
#define WEB_BUCKETS 11
#define WEB_CODES 18
/* Of one method. */
struct web_counts {
    uint64_t n, sum_us;
    uint64_t buckets[WEB_BUCKETS + 1];
    uint64_t codes[WEB_CODES];
};

enum web_listener_kind { LISTEN_UNIX, LISTEN_TCP };

struct web_listener {
    struct web *web;
    enum web_listener_kind kind;
    int fd;
    uv_poll_t poll;
    bool listening;
};

struct web_conn {
    struct web *web;
    struct web_who who;
    struct web_user *user;
    bool tcp;
    bool needs_token;
    int fd;
    struct gate *gate; /* of who has connected, a reference, or NULL: not needed yet */
    char *raw;         /* owned: the address of the request that is being read */
    LIST_ENTRY(web_conn) link;
};

struct static_file;
struct stream_out;
struct web_request;
/* What becomes of an address. */
struct route {
    const char *path;    /* ends in a slash: and all that is below it */
    const char *methods; /* "GET HEAD PUT" */
    unsigned params;     /* 1 << enum url_param, that it knows */
    /* The headers are there: may reply, or begin the body. NULL: it has none. */
    void (*head)(struct web_request *r);
    /* All is there: replies, now or later. */
    void (*start)(struct web_request *r);
    /* Nobody waits any more; may be NULL. */
    void (*cancel)(struct web_request *r);
    bool open; /* also while the node serves nobody */
};

struct web_request {
    struct web *web;
    struct web_conn *conn;
    struct MHD_Connection *mhd;
    const char *method; /* static */
    const struct route *route;
    struct url *url;     /* owned */
    struct token *token; /* a reference; NULL: none was needed, or brought */
    const char *key;     /* in url */
    size_t key_len;
    bool directory;
    bool unread; /* nobody has looked at its headers yet */
    bool parked; /* suspended until there is time for it */
    bool begun, suspended, dead;
    bool takes_body;
    struct buffer body; /* what has come in, behind what the route put there */
    size_t body_at;     /* where it begins */
    uint64_t body_max;
    size_t reserved; /* of the user's share */
    uint64_t discarded;
    struct MHD_Response *response; /* owned, until it is queued */
    unsigned status;
    struct gate *gate; /* a reference */
    struct gate_call call;
    struct gate_write write;
    void *state; /* the route's own; freed with free() */
    uint64_t since_ns;
    LIST_ENTRY(web_request) link; /* in web->suspended */
    TAILQ_ENTRY(web_request) park_link;
};

struct web {
    struct web_owner owner;
    struct web_listener listeners[2];
    unsigned n_listeners;
    uint64_t port_again_ms; /* somebody else has the TCP port; 0: nobody */
    struct MHD_Daemon *daemon;
    uv_poll_t poll; /* MHD's epoll descriptor */
    uv_timer_t timer;
    uv_idle_t again; /* runs while the next turn must not wait */
    bool run;        /* MHD has something to do */
    bool stopped;
    struct gates gates;
    unsigned n_connections;
    size_t upload;
    struct web_user *users;
    struct web_conn *entering; /* on its way into MHD */
    LIST_HEAD(, web_conn) conns;
    LIST_HEAD(, web_request) suspended;
    TAILQ_HEAD(, web_request) parked;
    unsigned begun; /* requests, in this turn */
    uint64_t begin_until_ns;
    struct tokens tokens;
    struct stat token_stat; /* of their file */
    LIST_HEAD(, stream_out) events;
    uint64_t heartbeat_ms;  /* when they get the next one */
    struct buffer shed[64]; /* large buffers, given back step by step */
    unsigned n_shed;
    struct {
        unsigned n; /* lookups of accounts under way */
    } lookups;
    uint64_t say_ms;
    struct web_counts counts[WEB_OPS];
    uint64_t term, terms; /* the last one seen; begun since the start */
    struct pulse pulse;
};

/* ---- accept.c ---- */
/* A TCP port that somebody else has is tried again at each beat. */
int web_listen(struct web *w, char *why);
void web_unlisten(struct web *w);
void web_listen_again(struct web *w, uint64_t now_ms);
struct web_user *web_user_enter(struct web *w, uint32_t uid);
void web_user_leave(struct web *w, struct web_user *u);

/* ---- access.c ---- */
/* Whether there may be tokens. */
bool access_by_token(const struct web *w);
/* Reads [http] token_file. -errno, with why (512 bytes). */
int access_start(struct web *w, char *why);
/* Reads it anew if it has changed. */
void access_beat(struct web *w);
void access_stop(struct web *w);
/* Takes note of the request's token. False: it has been replied 401. */
bool access_check(struct web_request *r, const char *raw);
/* Whether the token is for that key. False: it has been replied 403. */
bool access_covers(struct web_request *r, const char *key, size_t len);
/* As whom the request is served: a token's bearer is the node's own user, with the token's name as label. */
void access_who(const struct web_request *r, struct web_who *who_out);

/* ---- request.c ---- */
enum MHD_Result web_on_request(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
                               const char *version, const char *upload, size_t *upload_len, void **state);
void web_on_completed(void *arg, struct MHD_Connection *mhd, void **state,
                      enum MHD_RequestTerminationCode how);
const char *web_header(const struct web_request *r, const char *name);
/* The request's gate; NULL: it has been replied to. */
struct gate *web_gate(struct web_request *r);
void web_ask(struct web_request *r, uint8_t type, const union request_body *body, gate_done *done);
/* At the beginning of a turn. */
void requests_turn(struct web *w);
void web_resume(struct web_request *r);
void web_suspend(struct web_request *r);
void web_shed(struct web *w, struct buffer *b);

/* ---- reply.c ---- */
/* Takes the response over. Once a request. */
void web_reply(struct web_request *r, unsigned status, struct MHD_Response *response);
void web_reply_json(struct web_request *r, unsigned status, json_t *object); /* takes it over */
void web_reply_text(struct web_request *r, unsigned status, const char *type, const char *text, size_t len);
struct MHD_Response *web_json(json_t *object); /* takes it over */
/* {"error": "KEY: TEXT"}. */
void web_fail(struct web_request *r, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* By an enum kv_error or -ECONNRESET, with the command line's sentence. written: it was a write. */
void web_fail_code(struct web_request *r, int code, const char *detail, bool written);
/* Of enum kv_error. */
unsigned web_status_of(int code);
void web_header_add(struct MHD_Response *response, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Adds ETag, KV-Version, Last-Modified. */
void web_headers_of(struct MHD_Response *response, const struct attr *attr);

/* ---- json.c: as the command line's --json has it ---- */
#define WEB_ROWS_MAX 300 /* in one answer: making it is part of a turn */
/* NAME, or NAME_base64 of what is no UTF-8. */
void web_json_set(json_t *object, const char *name, const void *data, size_t len);
void web_json_set_base64(json_t *object, const char *name, const void *data, size_t len);
json_t *web_json_token(uint64_t revision); /* "0-123" */
json_t *web_json_time(int64_t ns);         /* "2026-01-31T12:00:00.000Z" */
json_t *web_json_row(const struct version_row *row);
const char *web_type_name(uint8_t type);
/* In its place: bytes that are no UTF-8, such as of a character that was cut, become question marks. */
void web_json_clean(char *text);
/* False: it is none. The bytes are owned by the caller. */
bool web_base64_decode(const char *text, size_t len, struct buffer *out);

/* ---- routes.c ---- */
const struct route *route_find(const char *path);
bool route_has(const struct route *route, const char *method);
/* 405, with what to do instead. */
void route_refuse_method(struct web_request *r, const struct route *route);
/* The addresses that small stores have (GET /set?key=k&value=v): 405 with the line for here. False: it is
 * none. */
bool route_refuse_old(struct web_request *r, const char *raw);

/* ---- info.c, metrics.c ---- */
void info_live(struct web_request *r);
void info_ready(struct web_request *r);
void info_status(struct web_request *r);
void info_members(struct web_request *r);
void info_dashboard(struct web_request *r);
void info_metrics(struct web_request *r);

/* ---- events.c ---- */
#define EVENTS_HEARTBEAT_MS 10000 /* a comment, so that who went is noticed */
void events_start(struct web_request *r);
void events_cancel(struct web_request *r);
void events_beat(struct web *w, uint64_t now_ms);
/* Ends the streams of tokens that are no longer in the file. */
void events_revoke(struct web *w);
void info_log(struct web_request *r);
void info_locks(struct web_request *r);

/* ---- txn.c ---- */
void txn_head(struct web_request *r);
void txn_start(struct web_request *r);

/* ---- static.c ---- */
const struct static_file *static_find(const char *path);
void static_start(struct web_request *r);

/* One request is over. */
void metrics_count(struct web *w, const struct web_request *r);
void metrics_beat(struct web *w);

/* ---- kv_list.c, kv_append.c ---- */
void kv_list(struct web_request *r);
void kv_list_cancel(struct web_request *r);
void kv_append_head(struct web_request *r);
void kv_append(struct web_request *r);
void kv_append_cancel(struct web_request *r);

/* ---- kv_get.c, kv_put.c ---- */
void kv_head(struct web_request *r);
void kv_start(struct web_request *r);
void kv_cancel(struct web_request *r);
void kv_get(struct web_request *r);
void kv_write_head(struct web_request *r);
void kv_write(struct web_request *r);
/* Of the header, if there is one. False: it has been replied. */
bool kv_idempotency_key(struct web_request *r, struct gate_key *out);
/* What came of an earlier try of a write that cannot be repeated: a command under its number that is never
 * executed. */
void kv_ask_kept(struct web_request *r, const struct gate_key *key,
                 void (*done)(void *arg, int code, const struct command_result *result, const char *detail));
void kv_reply_written(struct web_request *r, const struct command_result *result);

#endif
