/* Answers: their headers, and what an enum kv_error is in HTTP. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvnode/group/group.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/self.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"

void web_header_add(struct MHD_Response *response, const char *name, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    MHD_add_response_header(response, name, text);
}

void web_headers_of(struct MHD_Response *response, const struct attr *attr)
{
    char text[64];
    time_t seconds = (time_t)(attr->mtime_ns / 1000000000);
    struct tm tm;

    web_header_add(response, "ETag", "\"0-%" PRIu64 "\"", attr->content_revision);
    if (attr->version != 0)
        web_header_add(response, "KV-Version", "%" PRIu64, attr->version);
    if (gmtime_r(&seconds, &tm) != NULL && strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
        MHD_add_response_header(response, "Last-Modified", text);
}

void web_reply(struct web_request *r, unsigned status, struct MHD_Response *response)
{
    if (response == NULL || r->response != NULL) {
        if (response != NULL)
            MHD_destroy_response(response);
        r->dead |= r->response == NULL; /* out of memory: the connection ends without an answer */
        web_resume(r);
        return;
    }
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (MHD_get_response_header(response, "Cache-Control") == NULL)
        MHD_add_response_header(response, "Cache-Control", "no-cache");
    r->response = response;
    r->status = status;
    web_resume(r);
}

struct MHD_Response *web_json(json_t *object)
{
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    size_t len = text != NULL ? strlen(text) : 0;
    char *line = text != NULL ? realloc(text, len + 2) : NULL;
    struct MHD_Response *response = NULL;

    json_decref(object);
    if (line == NULL) {
        free(text);
        return NULL;
    }
    line[len++] = '\n';
    response = MHD_create_response_from_buffer(len, line, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        free(line);
    else
        MHD_add_response_header(response, "Content-Type", "application/json");
    return response;
}

void web_reply_json(struct web_request *r, unsigned status, json_t *object)
{
    web_reply(r, status, web_json(object));
}

void web_reply_text(struct web_request *r, unsigned status, const char *type, const char *text, size_t len)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(len, (void *)text, MHD_RESPMEM_MUST_COPY);

    if (response != NULL)
        MHD_add_response_header(response, "Content-Type", type);
    web_reply(r, status, response);
}

/* It is a write that was tried before: "nothing was written" would be said of that try as well. */
static bool is_repetition(const struct web_request *r)
{
    return web_header(r, "Idempotency-Key") != NULL;
}

static void fail(struct web_request *r, unsigned status, char *text, int retry_s)
{
    json_t *o = json_object();
    struct MHD_Response *response;

    web_json_clean(text);
    json_object_set_new(o, "error", json_string(text));
    json_object_set_new(o, "status", json_integer((json_int_t)status));
    response = web_json(o);
    if (response != NULL && retry_s > 0)
        web_header_add(response, "Retry-After", "%d", retry_s);
    if (response != NULL && status == 504 && r->write.session_id != 0)
        web_header_add(response, "Idempotency-Key", "%" PRIu64 "-%" PRIu64 "-%016" PRIx64,
                       r->write.session_id, r->write.seq, r->write.tag);
    web_reply(r, status, response);
}

/* "get app/color: ". */
static size_t subject(const struct web_request *r, char *out, size_t size)
{
    int n;

    if (r->key == NULL)
        return 0;
    n = snprintf(out, size, "%.300s%s: ", r->key_len > 0 ? r->key : "/", r->key_len > 300 ? "…" : "");
    return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

void web_fail(struct web_request *r, unsigned status, const char *fmt, ...)
{
    char text[1500];
    size_t at = subject(r, text, sizeof text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text + at, sizeof text - at, fmt, ap);
    va_end(ap);
    fail(r, status, text, 0);
}

unsigned web_status_of(int code)
{
    switch (code) {
    case KV_OK:
        return 200;
    case KV_E_NOENT:
    case KV_E_NOVERSION:
    case KV_E_STALE:
        return 404;
    case KV_E_EXIST:
    case KV_E_NOTDIR:
    case KV_E_ISDIR:
    case KV_E_NOTEMPTY:
    case KV_E_LOOP:
    case KV_E_LOCKED:
    case KV_E_MLINK:
    case KV_E_SESSION:
    case KV_E_DUPLICATE:
        return 409;
    case KV_E_ACCES:
    case KV_E_PERM:
    case KV_E_REFUSED:
        return 403;
    case KV_E_INVAL:
    case KV_E_NAMETOOLONG:
        return 400;
    case KV_E_FBIG:
        return 413;
    case KV_E_NOSPC:
        return 507;
    case KV_E_VERSION:
    case KV_E_FENCE:
        return 412;
    case KV_E_UNKNOWN:
        return 504;
    case KV_E_NOTSUP:
        return 501;
    case KV_E_ROFS:
    case KV_E_UNAVAILABLE:
    case KV_E_NOTLEADER:
    case KV_E_BUSY:
    case -ECONNRESET:
        return 503;
    default:
        return 500;
    }
}

/* Which voters can take no write: "n2 is unreachable, n3's …". */
static void name_useless(const struct web_request *r, char *out, size_t size)
{
    struct members members;
    size_t i, used = 0;

    out[0] = '\0';
    members_look(r->web->owner.self, &members);
    for (i = 0; i < members.n; i++) {
        const struct member *m = &members.all[i];
        int n;

        if (!m->voter || members_usable(m))
            continue;
        n = snprintf(out + used, size - used, "%s%s: %s", used > 0 ? ", " : "", m->name,
                     members_state_text(m->state));
        if (n < 0 || (size_t)n >= size - used) {
            out[used] = '\0';
            return;
        }
        used += (size_t)n;
    }
}

static const char *outcome(const struct web_request *r, unsigned status, int code, bool written)
{
    if (!written)
        return "";
    if (status >= 500 && is_repetition(r))
        return "; whether the first try was written is not known here";
    if (code == KV_E_SESSION || code == KV_E_DUPLICATE)
        return "; whether it was written is not known here any more";
    if (status == 504)
        return "; it may or may not have been written";
    return status == 500 ? "" : "; nothing was written";
}

static const char *advice(const struct web_request *r, unsigned status, int code, bool written)
{
    if (written && status >= 500 && is_repetition(r))
        return ". Repeat it with the same Idempotency-Key, at any node";
    if (code == KV_E_NOSPC)
        return ". Try: kvnode status";
    if (code == KV_E_ISDIR)
        return ". Try its address with a slash at the end";
    if (code == KV_E_NOVERSION)
        return ". Try: ?history";
    if (code == KV_E_SESSION || code == KV_E_DUPLICATE)
        return ". Try: GET, and look";
    if (status == 504)
        return ". Repeat it with the Idempotency-Key of this answer, at any node: it is then executed once";
    return status == 503 ? ". Try: kvnode doctor" : "";
}

void web_fail_code(struct web_request *r, int code, const char *detail, bool written)
{
    unsigned status = web_status_of(code);
    char text[1500], missing[400] = "";
    size_t at = subject(r, text, sizeof text);
    const char *what = code > 0 ? error_text(code) : "the node's state is being replaced";

    if (code == KV_E_UNAVAILABLE && (detail == NULL || detail[0] == '\0'))
        what = "no leader within the time for it";
    if (code == KV_E_UNAVAILABLE || code == KV_E_ROFS)
        name_useless(r, missing, sizeof missing);
    if (detail == NULL || detail[0] == '\0')
        detail = missing;
    snprintf(text + at, sizeof text - at, "%s%s%s%s%s%s", what, detail[0] != '\0' ? " (" : "", detail,
             detail[0] != '\0' ? ")" : "", outcome(r, status, code, written),
             advice(r, status, code, written));
    fail(r, status, text, status == 503 ? 1 : 0);
}
