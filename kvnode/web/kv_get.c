/* GET and HEAD of a key. The value comes in pieces of WEB_PIECE: one that fits into the first is the answer;
 * of a longer one the rest is asked for as the client takes it. If it is written meanwhile, what is sent
 * cannot be ended: the connection is cut, so the client sees that the value is short, and never half of one
 * and half of another. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"

#define BLOCK (32 * 1024)
#define AS_OF_PAGE 100 /* rows */

/* A long value on its way out. */
struct outgoing {
    struct web_request *request; /* NULL: nobody asks for more */
    struct MHD_Connection *mhd;
    uint64_t ino, revision, size;
    uint64_t directory, version; /* of an old one; 0: the current one */
    uint64_t at;                 /* of the piece, in the value */
    struct buffer piece;
    bool failed, asked;
    uint8_t consistency;
};

/* r->state, of GET. */
struct getting {
    struct etags none_match;
    struct outgoing *outgoing; /* the response's; NULL: there is none, or it has gone */
    uint64_t directory, version;
    uint64_t limit;
    int64_t as_of_ns;                   /* wall clock; 0: not asked */
    char author[COMMAND_NODE_MAX + 16]; /* of an old version */
};

static void headers(struct web_request *r, struct MHD_Response *response, const struct attr *attr)
{
    if (response == NULL)
        return;
    web_headers_of(response, attr);
    if (((const struct getting *)r->state)->author[0] != '\0')
        MHD_add_response_header(response, "KV-Author", ((const struct getting *)r->state)->author);
    MHD_add_response_header(response, "Content-Security-Policy", "default-src 'none'; sandbox");
    MHD_add_response_header(response, "Content-Type",
                            (r->url->given >> PARAM_TEXT & 1) != 0 ? "text/plain; charset=utf-8"
                                                                   : "application/octet-stream");
}

static void took_piece(struct outgoing *o, int code, const struct bytes *data)
{
    o->asked = false;
    buffer_clear(&o->piece);
    if (code != KV_OK || data->len == 0)
        o->failed = true;
    else
        buffer_put_bytes(&o->piece, data->data, data->len);
    o->failed |= o->piece.failed;
}

static void on_old_piece(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct outgoing *o = ((struct getting *)r->state)->outgoing;

    (void)detail;
    if (o == NULL)
        return;
    took_piece(o, code, code == KV_OK ? &answer->version.data : NULL);
    web_resume(r);
}

static void on_piece(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct outgoing *o = ((struct getting *)r->state)->outgoing;

    (void)detail;
    if (o == NULL)
        return;
    if (code == KV_OK && (answer->get.attr.content_revision != o->revision || answer->get.attr.ino != o->ino))
        code = KV_E_STALE;
    took_piece(o, code, code == KV_OK ? &answer->get.data : NULL);
    web_resume(r);
}

static void last_name(const struct web_request *r, struct bytes *parent_out, struct bytes *name_out)
{
    size_t at = r->key_len;

    while (at > 0 && r->key[at - 1] != '/')
        at--;
    *parent_out = bytes_of(r->key, at);
    *name_out = bytes_of(r->key + at, r->key_len - at);
}

static void ask_version(struct web_request *r, uint64_t directory, uint64_t version, uint64_t pos,
                        gate_done *done)
{
    union request_body ask = {0};
    struct bytes parent, name;

    last_name(r, &parent, &name);
    ask.version = (struct version_request){
        .directory = directory, .name = name, .version = version, .offset = pos, .length = WEB_PIECE};
    gate_ask(r->gate, &r->call, MESSAGE_VERSION, &ask, done, r);
}

static ssize_t on_read(void *arg, uint64_t pos, char *out, size_t max)
{
    struct outgoing *o = arg;
    struct web_request *r = o->request;
    union request_body ask = {0};
    size_t n;

    if (o->failed || r == NULL || r->dead)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (pos >= o->at && pos < o->at + o->piece.len) {
        n = (size_t)(o->at + o->piece.len - pos);
        if (n > max)
            n = max;
        memcpy(out, o->piece.data + (pos - o->at), n);
        return (ssize_t)n;
    }
    if (!o->asked) {
        o->asked = true;
        o->at = pos;
        buffer_clear(&o->piece);
        ask.get = (struct get_request){.at = READ_LOCAL, /* not older than what has been sent */
                                       .path = bytes_of(r->key, r->key_len),
                                       .offset = pos,
                                       .length = WEB_PIECE,
                                       .content_revision = o->revision};
        if (o->version != 0)
            ask_version(r, o->directory, o->version, pos, on_old_piece);
        else
            gate_ask(r->gate, &r->call, MESSAGE_GET, &ask, on_piece, r);
    }
    web_suspend(r);
    return 0;
}

static void on_sent(void *arg)
{
    struct outgoing *o = arg;

    if (o->request != NULL && o->request->state != NULL)
        ((struct getting *)o->request->state)->outgoing = NULL;
    buffer_deinit(&o->piece);
    free(o);
}

static struct MHD_Response *long_response(struct web_request *r, const struct attr *attr,
                                          const struct bytes *first)
{
    struct getting *g = r->state;
    struct outgoing *o = calloc(1, sizeof *o);
    struct MHD_Response *response;

    if (o == NULL)
        return NULL;
    o->request = r;
    o->mhd = r->mhd;
    o->ino = attr->ino;
    o->revision = attr->content_revision;
    o->size = attr->size;
    o->directory = g->directory;
    o->version = g->version;
    if (first != NULL)
        buffer_put_bytes(&o->piece, first->data, first->len);
    o->failed = o->piece.failed;
    response = MHD_create_response_from_callback(attr->size, BLOCK, on_read, o, on_sent);
    if (response == NULL)
        on_sent(o);
    else
        g->outgoing = o;
    return response;
}

static void not_modified(struct web_request *r, const struct attr *attr)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

    headers(r, response, attr);
    web_reply(r, 304, response);
}

/* A value is there; data: NULL for HEAD. */
static void reply(struct web_request *r, const struct attr *attr, const struct bytes *data)
{
    const struct getting *g = r->state;
    struct MHD_Response *response;

    if (attr->type != INODE_FILE) {
        web_fail_code(r, attr->type == INODE_DIRECTORY ? KV_E_ISDIR : KV_E_INVAL,
                      attr->type == INODE_SYMLINK ? "it is a symbolic link, which mounts follow" : NULL,
                      false);
        return;
    }
    if (etags_have(&g->none_match, attr->content_revision)) {
        not_modified(r, attr);
        return;
    }
    if (data == NULL || data->len < attr->size)
        response = long_response(r, attr, data);
    else
        response = MHD_create_response_from_buffer(data->len, (void *)data->data, MHD_RESPMEM_MUST_COPY);
    headers(r, response, attr);
    web_reply(r, 200, response);
}

static void on_resolved(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;

    if (code == KV_OK)
        reply(r, &answer->resolve.attr, NULL);
    else
        web_fail_code(r, code, detail, false);
}

static void on_got(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;

    if (code == KV_OK)
        reply(r, &answer->get.attr, &answer->get.data);
    else if (code == KV_E_INVAL) /* a name, but no value: what it is */
        web_fail_code(r, code, "it is no file: it has no value", false);
    else
        web_fail_code(r, code, detail, false);
}

/* ---- ?version=N, ?as-of=TIME, ?history ---- */

static void on_version(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct getting *g = r->state;
    const struct version_row *row;
    struct attr attr = {0};
    bool head = strcmp(r->method, "HEAD") == 0;

    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    row = &answer->version.row;
    snprintf(g->author, sizeof g->author, "%" PRIu32 "@%s", row->author_uid, row->author_node);
    attr.type = row->type;
    attr.size = row->size;
    attr.version = row->version;
    attr.mtime_ns = (int64_t)row->wall_ns;
    attr.content_revision = row->revision;
    reply(r, &attr, head ? NULL : &answer->version.data);
}

static void on_history(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct version_row row = {0};
    struct cursor c, labels;
    json_t *o, *list;
    uint32_t i;

    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    if (answer->history.rows.count == 0) {
        web_fail_code(r, KV_E_NOENT, NULL, false);
        return;
    }
    o = json_object();
    list = json_array();
    c = rows_cursor(&answer->history.rows);
    labels = cursor_of(answer->history.labels.data, answer->history.labels.len);
    for (i = 0; i < answer->history.rows.count; i++) {
        version_row_decode(&c, &row);
        labels_next(&labels, &row);
        json_array_append_new(list, web_json_row(&row));
    }
    web_json_set(o, "key", r->key, r->key_len);
    json_object_set_new(o, "versions", list);
    json_object_set_new(o, "more", json_boolean(answer->history.more));
    if (answer->history.more)
        json_object_set_new(o, "next", web_json_token(row.revision));
    web_reply_json(r, 200, o);
}

static void ask_history(struct web_request *r, uint64_t before, uint64_t n, gate_done *done)
{
    uint32_t local = url_has(r->url, PARAM_LOCAL) ? PAST_LOCAL : 0;
    union request_body ask = {0};
    struct bytes parent, name;

    last_name(r, &parent, &name);
    ask.history = (struct history_request){.directory = ((const struct getting *)r->state)->directory,
                                           .name = name,
                                           .before = before,
                                           .n = (uint32_t)n | local};
    web_ask(r, MESSAGE_HISTORY, &ask, done);
}

/* Back, page by page, to what it was at that time. */
static void on_older(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct getting *g = r->state;
    struct version_row row = {0};
    struct cursor c;
    uint32_t i;

    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    c = rows_cursor(&answer->history.rows);
    for (i = 0; i < answer->history.rows.count; i++) {
        version_row_decode(&c, &row);
        if (row.attributes_only || (int64_t)row.wall_ns > g->as_of_ns)
            continue;
        if (row.deleted)
            break;
        g->version = row.version;
        ask_version(r, g->directory, g->version, 0, on_version);
        return;
    }
    if (i == answer->history.rows.count && i > 0 && answer->history.more)
        ask_history(r, row.revision, AS_OF_PAGE, on_older);
    else
        web_fail_code(r, KV_E_NOENT, "at that time, as far as history goes back", false);
}

static void on_parent(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct getting *g = r->state;
    uint64_t before = 0;

    if (code == KV_OK && answer->resolve.attr.type != INODE_DIRECTORY)
        code = KV_E_NOTDIR;
    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    g->directory = answer->resolve.attr.ino;
    if (g->version != 0) {
        ask_version(r, g->directory, g->version, 0, on_version);
        return;
    }
    if (g->as_of_ns != 0) {
        ask_history(r, 0, AS_OF_PAGE, on_older);
        return;
    }
    if (url_has(r->url, PARAM_AFTER))
        token_parse(r->url->value[PARAM_AFTER], strlen(r->url->value[PARAM_AFTER]), &before);
    ask_history(r, before, g->limit, on_history);
}

/* "2026-01-31T12:00:00Z", with a fraction or without, or seconds since 1970; the end of what is said: a
 * second or a millisecond. */
static bool parse_time(const char *text, int64_t *ns_out)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t unit = 1000000000, seconds;
    char *end;

    if (rest != NULL) {
        seconds = timegm(&tm);
    } else {
        errno = 0;
        seconds = strtoll(text, &end, 10);
        if (end == text || text[0] < '0' || text[0] > '9' || errno != 0 || seconds > INT64_MAX / unit - 1)
            return false;
        rest = end;
    }
    *ns_out = seconds * 1000000000;
    if (*rest == '.') {
        for (rest++; *rest >= '0' && *rest <= '9' && unit > 1; rest++)
            *ns_out += (*rest - '0') * (unit /= 10);
    }
    *ns_out += unit - 1;
    return *ns_out > 0 && (strcmp(rest, "Z") == 0 || *rest == '\0');
}

/* True: it is about the past, and on its way or replied. */
static bool get_past(struct web_request *r, struct getting *g)
{
    union request_body ask = {0};
    struct bytes parent, name;
    uint64_t before;

    unsigned asked =
        url_has(r->url, PARAM_VERSION) + url_has(r->url, PARAM_HISTORY) + url_has(r->url, PARAM_AS_OF);

    if (asked == 0)
        return false;
    if (asked > 1) {
        web_fail(r, 400, "?version, ?as-of and ?history are different questions");
    } else if (url_has(r->url, PARAM_AS_OF) && !parse_time(r->url->value[PARAM_AS_OF], &g->as_of_ns)) {
        web_fail(r, 400, "`as-of` is a time such as 2026-01-31T12:00:00Z, or seconds since 1970");
    } else if (!url_number(r->url, PARAM_VERSION, 0, 1, UINT64_MAX, &g->version) ||
               !url_number(r->url, PARAM_LIMIT, 100, 1, WEB_ROWS_MAX, &g->limit)) {
        web_fail(r, 400, "%s", r->url->why);
    } else if (url_has(r->url, PARAM_AFTER) &&
               !token_parse(r->url->value[PARAM_AFTER], strlen(r->url->value[PARAM_AFTER]), &before)) {
        web_fail(r, 400, "the parameter `after` of a history is the `next` of an answer");
    } else {
        last_name(r, &parent, &name);
        ask.resolve = (struct path_request){
            .at = url_has(r->url, PARAM_LOCAL) ? READ_LOCAL : READ_LINEARIZABLE, .path = parent};
        web_ask(r, MESSAGE_RESOLVE, &ask, on_parent);
    }
    return true;
}

void kv_get(struct web_request *r)
{
    bool local = url_has(r->url, PARAM_LOCAL);
    struct getting *g = calloc(1, sizeof *g);
    union request_body ask = {0};

    r->state = g;
    if (g == NULL) {
        web_fail_code(r, KV_E_BUSY, "out of memory", false);
        return;
    }
    etags_parse(web_header(r, "If-None-Match"), &g->none_match);
    if (get_past(r, g))
        return;
    if (url_has(r->url, PARAM_LIMIT) || url_has(r->url, PARAM_AFTER) || url_has(r->url, PARAM_RECURSIVE)) {
        web_fail(
            r, 400,
            "`limit`, `after` and `recursive` belong to a directory, which ends in a slash, or ?history");
        return;
    }
    if (strcmp(r->method, "HEAD") == 0) {
        ask.resolve = (struct path_request){.at = local ? READ_LOCAL : READ_LINEARIZABLE,
                                            .path = bytes_of(r->key, r->key_len)};
        web_ask(r, MESSAGE_RESOLVE, &ask, on_resolved);
        return;
    }
    ask.get = (struct get_request){.at = local ? READ_LOCAL : READ_LINEARIZABLE,
                                   .path = bytes_of(r->key, r->key_len),
                                   .length = WEB_PIECE};
    web_ask(r, MESSAGE_GET, &ask, on_got);
}

void kv_cancel(struct web_request *r)
{
    struct getting *g = r->state;
    bool reads = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;

    if (strcmp(r->method, "PATCH") == 0)
        kv_append_cancel(r);
    else if (strcmp(r->method, "GET") == 0 && r->directory)
        kv_list_cancel(r);
    else if (reads && g != NULL && g->outgoing != NULL)
        g->outgoing->request = NULL;
}
