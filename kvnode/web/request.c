/* One request, from its first line to its answer. MHD calls web_on_request() when the headers are there, with
 * each piece of the body, when all has come, and once more after each resumption.
 *
 *   headers ──refused──► reply        (checked before a byte of the body is taken)
 *      └─► body ──► start ──► suspended ──answer──► reply
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/config/config.h"
#include "kvnode/group/group.h"
#include "kvnode/loop/turn.h"
#include "kvnode/peer/self.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

/* Of a body that is refused, before the connection is cut. */
#define DISCARD_MAX (64UL * 1024 * 1024)

static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"};

const char *web_header(const struct web_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

struct gate *web_gate(struct web_request *r)
{
    struct web_conn *c = r->conn;
    const char *why = NULL;
    struct web_who who;

    if (r->gate != NULL)
        return r->gate;
    if (r->token != NULL) {
        access_who(r, &who);
        r->gate = gate_get(&r->web->gates, &who, &why);
        if (r->gate == NULL)
            web_fail_code(r, KV_E_BUSY, why, false);
        return r->gate;
    }
    if (c->gate != NULL && gate_ended(c->gate)) {
        gate_put(c->gate);
        c->gate = NULL;
    }
    if (c->gate == NULL)
        c->gate = gate_get(&r->web->gates, &c->who, &why);
    if (c->gate == NULL) {
        web_fail_code(r, KV_E_BUSY, why, false);
        return NULL;
    }
    r->gate = gate_ref(c->gate);
    return r->gate;
}

void web_ask(struct web_request *r, uint8_t type, const union request_body *body, gate_done *done)
{
    struct gate *g = web_gate(r);

    if (g != NULL)
        gate_ask(g, &r->call, type, body, done, r);
}

void web_suspend(struct web_request *r)
{
    if (r->suspended)
        return;
    r->suspended = true;
    LIST_INSERT_HEAD(&r->web->suspended, r, link);
    MHD_suspend_connection(r->mhd);
}

void web_resume(struct web_request *r)
{
    if (!r->suspended)
        return;
    r->suspended = false;
    LIST_REMOVE(r, link);
    MHD_resume_connection(r->mhd);
    r->web->run = true;
}

static void release_upload(struct web_request *r)
{
    r->web->upload -= r->reserved;
    r->conn->user->upload -= r->reserved;
    r->reserved = 0;
}

static void unpark(struct web_request *r)
{
    if (!r->parked)
        return;
    r->parked = false;
    TAILQ_REMOVE(&r->web->parked, r, park_link);
}

static void free_request(struct web_request *r)
{
    unpark(r);
    metrics_count(r->web, r);
    if (r->route != NULL && r->route->cancel != NULL)
        r->route->cancel(r);
    gate_cancel(&r->call);
    gate_write_cancel(&r->write);
    release_upload(r);
    web_shed(r->web, &r->body);
    if (r->response != NULL)
        MHD_destroy_response(r->response);
    gate_put(r->gate);
    token_put(r->token);
    free(r->url);
    free(r->state);
    free(r);
}

void web_on_completed(void *arg, struct MHD_Connection *mhd, void **state,
                      enum MHD_RequestTerminationCode how)
{
    struct web_request *r = *state;

    (void)arg;
    (void)mhd;
    (void)how;
    *state = NULL;
    if (r != NULL)
        free_request(r);
}

/* Room for so many bytes of a body. False: there is none. */
static bool reserve_upload(struct web_request *r, uint64_t n)
{
    struct web_user *u = r->conn->user;

    if (n > WEB_UPLOAD_MAX - r->web->upload || (!u->trusted && n > WEB_UPLOAD_SHARE - u->upload))
        return false;
    r->web->upload += n;
    u->upload += n;
    r->reserved += n;
    return true;
}

static void fail_upload(struct web_request *r)
{
    web_fail_code(r, KV_E_BUSY, "too many bytes are on their way into this node", true);
}

static void fail_long(struct web_request *r)
{
    web_fail(
        r, 413,
        "the value is larger than the limit of %llu bytes (value_limit); nothing was written. Raise it with: "
        "kvnode config --cluster value_limit=SIZE",
        (unsigned long long)r->body_max);
}

/* How long the body is said to be. False: it has been replied. */
static bool check_length(struct web_request *r)
{
    const char *text = web_header(r, "Content-Length");
    unsigned long long n = 0;

    if (text != NULL)
        n = strtoull(text, NULL, 10); /* MHD has looked at it */
    if (!r->takes_body) {
        if (n > 0 || web_header(r, "Transfer-Encoding") != NULL)
            web_fail(r, 400, "a %s has no body here", r->method);
    } else if (n > r->body_max) {
        fail_long(r);
    } else if (!reserve_upload(r, n)) {
        fail_upload(r);
    }
    return r->response == NULL;
}

static void take_body(struct web_request *r, const char *data, size_t len)
{
    size_t had = r->body.len - r->body_at;

    if (r->response != NULL)
        return;
    if (len > r->body_max - had) {
        fail_long(r);
    } else if (had + len > r->reserved && !reserve_upload(r, had + len - r->reserved)) {
        fail_upload(r);
    } else {
        buffer_put_bytes(&r->body, data, len);
        if (r->body.failed)
            web_fail_code(r, KV_E_BUSY, "out of memory", true);
    }
}

static bool is_safe(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* A page of another site can have a browser send what it likes to an address of this machine; but not without
 * the browser's saying where it comes from. Programs say nothing. */
static bool is_foreign(const struct web_request *r)
{
    const char *site = web_header(r, "Sec-Fetch-Site"), *origin = web_header(r, "Origin");

    if (origin != NULL && !origin_is_host(origin, web_header(r, "Host")))
        return true;
    return site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0;
}

static bool check_head(struct web_request *r, const char *raw, const char *method)
{
    const struct config *config = r->web->owner.self->config;
    const char *host = web_header(r, "Host");
    size_t i;

    for (i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(methods[i], method) == 0)
            r->method = methods[i];
    /* A unix socket is no address that a browser could be led to; and where all need a token it would have
     * none to bring. */
    if (r->conn->tcp && config_is_loopback(config->http_host) &&
        !host_is_ours(host, config->http_port, config->http_hosts)) {
        web_fail(r, 421,
                 "this node is not %.100s; [http] hosts = NAME in its configuration lets it be called so",
                 host != NULL ? host : "without a name");
        return false;
    }
    if (!access_check(r, raw))
        return false;
    if (route_refuse_old(r, raw))
        return false;
    if (url_parse(raw, r->url) != 0) {
        web_fail(r, (unsigned)r->url->status, "%s", r->url->why);
        return false;
    }
    r->route = route_find(r->url->path);
    if (r->route == NULL) {
        web_fail(r, 404, "there is nothing at %.100s; keys are below /kv/, and /openapi.json lists the rest",
                 r->url->path);
        return false;
    }
    if (r->method == NULL || !route_has(r->route, r->method)) {
        route_refuse_method(r, r->route);
        r->route = NULL;
        return false;
    }
    if (!is_safe(r->method) && is_foreign(r)) {
        web_fail(r, 403, "a page of another site may not write here; nothing was written");
        return false;
    }
    if (r->token != NULL && r->token->read_only && !is_safe(r->method)) {
        web_fail(r, 403, "the token of %s is read-only; nothing was written", r->token->name);
        return false;
    }
    if ((r->url->given & ~r->route->params) != 0) {
        unsigned p = (unsigned)__builtin_ctz(r->url->given & ~r->route->params);

        web_fail(r, 400, "the parameter `%s` does not belong to %.100s", url_param_name(p), r->url->path);
        return false;
    }
    if (!r->route->open && self_no_service(r->web->owner.self) != NULL) {
        web_fail_code(r, KV_E_UNAVAILABLE, self_no_service(r->web->owner.self), !is_safe(r->method));
        return false;
    }
    return true;
}

static struct web_request *request_new(struct web *w, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct web_request *r = info != NULL && info->socket_context != NULL ? calloc(1, sizeof *r) : NULL;

    if (r == NULL)
        return NULL;
    r->url = malloc(sizeof *r->url);
    if (r->url == NULL) {
        free(r);
        return NULL;
    }
    r->url->path[0] = '\0';
    r->web = w;
    r->conn = info->socket_context;
    r->mhd = mhd;
    r->since_ns = clock_boot_ns();
    return r;
}

static enum MHD_Result queue(struct web_request *r)
{
    enum MHD_Result rv = MHD_queue_response(r->mhd, r->status, r->response);

    MHD_destroy_response(r->response);
    r->response = NULL;
    return rv;
}

/* So many requests begin in a turn, and as many more as there is time for. The others wait for the next, in
 * the order in which they came. */
static bool park(struct web_request *r)
{
    struct web *w = r->web;

    if (++w->begun <= WEB_BEGIN_MIN || !turn_time_is_up(w->begin_until_ns))
        return false;
    r->unread = true;
    r->parked = true;
    TAILQ_INSERT_TAIL(&w->parked, r, park_link);
    web_suspend(r);
    return true;
}

void requests_turn(struct web *w)
{
    struct web_request *r;
    unsigned n;

    w->begun = 0;
    w->begin_until_ns = clock_boot_ns() + WEB_BEGIN_NS;
    for (n = 0; n < WEB_BEGIN_MIN && (r = TAILQ_FIRST(&w->parked)) != NULL; n++) {
        unpark(r);
        w->begun++;
        web_resume(r);
    }
}

enum MHD_Result web_on_request(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
                               const char *version, const char *upload, size_t *upload_len, void **state)
{
    struct web_request *r = *state;

    (void)url;
    (void)version;
    if (r == NULL) {
        r = request_new(arg, mhd);
        *state = r;
        if (r == NULL)
            return MHD_NO;
        if (r->conn->raw == NULL)
            return MHD_NO;
        if (park(r))
            return MHD_YES;
        r->unread = true;
    }
    if (r->dead)
        return MHD_NO;
    if (r->unread) {
        r->unread = false;
        if (check_head(r, r->conn->raw, method) && r->route->head != NULL)
            r->route->head(r);
        if (r->response == NULL && check_length(r))
            return MHD_YES;
        return queue(r);
    }
    if (*upload_len > 0) {
        take_body(r, upload, *upload_len);
        if (r->response != NULL && (r->discarded += *upload_len) > DISCARD_MAX)
            return MHD_NO;
        *upload_len = 0;
        return MHD_YES; /* a refusal is told when all has come: whoever sends does not listen */
    }
    if (!r->begun && r->response == NULL) {
        r->begun = true;
        r->route->start(r);
    }
    if (r->response != NULL)
        return queue(r);
    if (r->dead)
        return MHD_NO;
    web_suspend(r);
    return MHD_YES;
}
