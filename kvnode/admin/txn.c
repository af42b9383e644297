/* txn: a file of comparisons and operations becomes one command. It is read as a whole, with the files that
 * it names, before anything is sent. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/error.h"
#include "sync/wire/ttl.h"
#include "sync/wire/txn.h"

/* With values in it, escaped. */
#define TEXT_MAX (4 * TXN_BYTES_MAX)

struct line {
    unsigned number;
    char what[96]; /* its beginning, for messages */
};

struct parse {
    const struct admin *a;
    const char *file;
    const char *begin, *at, *end; /* of the line that is parsed */
    struct buffer words;          /* what was quoted, and the values of files: items borrow by place */
    struct buffer body;
    struct line *lines; /* owned; of items, in order */
    size_t n, cap;
    size_t values; /* bytes to be set */
    bool operations, otherwise;
    int exit;
};

static bool fail_at(struct parse *p, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static bool fail_at(struct parse *p, const char *at, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    p->exit = admin_fail(p->a, EXIT_USAGE, NULL, "%s, line %u, column %td: %s; nothing was done", p->file,
                         p->lines[p->n].number, at - p->begin + 1, text);
    return false;
}

static bool fail_memory(struct parse *p)
{
    p->exit = admin_fail(p->a, EXIT_FAILED, NULL, "%s; nothing was done", strerror(ENOMEM));
    return false;
}

static void skip_blanks(struct parse *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t'))
        p->at++;
}

/* "…" with \" \\ \n \t; or up to the next blank. Appended to words. */
static bool take_word(struct parse *p, const char *what, struct bytes *out)
{
    size_t from = p->words.len;
    const char *begin;
    skip_blanks(p);
    begin = p->at;
    if (p->at == p->end)
        return fail_at(p, begin, "%s is missing", what);
    if (*p->at != '"') {
        while (p->at < p->end && *p->at != ' ' && *p->at != '\t')
            p->at++;
        buffer_put_bytes(&p->words, begin, (size_t)(p->at - begin));
    } else {
        for (p->at++; p->at < p->end && *p->at != '"'; p->at++) {
            char c = *p->at;
            if (c == '\\') {
                const char *known = p->at + 1 < p->end ? strchr("\"\\nt", p->at[1]) : NULL;
                if (known == NULL)
                    return fail_at(p, p->at, "behind a \\ stands \", \\, n or t");
                p->at++;
                c = *known == 'n' ? '\n' : *known == 't' ? '\t' : *known;
            }
            buffer_put_u8(&p->words, (uint8_t)c);
        }
        if (p->at == p->end)
            return fail_at(p, begin, "the quote is not closed");
        p->at++;
        if (p->at < p->end && *p->at != ' ' && *p->at != '\t')
            return fail_at(p, p->at, "a blank is missing behind the quote");
    }
    if (p->words.failed)
        return fail_memory(p);
    *out = bytes_of(p->words.data + from, p->words.len - from);
    return true;
}

static bool take_key(struct parse *p, struct bytes *out)
{
    const char *at;
    char key[KV_PATH_MAX + 1], why[256];
    skip_blanks(p);
    at = p->at;
    if (!take_word(p, "a key", out))
        return false;
    if (out->len > KV_PATH_MAX || memchr(out->data, '\0', out->len) != NULL)
        return fail_at(p, at, "a key has at most %d bytes, none of them NUL", KV_PATH_MAX);
    memcpy(key, out->data, out->len);
    key[out->len] = '\0';
    return key_check(key, false, why, sizeof why) == KV_OK || fail_at(p, at, "%s", why);
}

static bool read_file(struct parse *p, const char *at, const char *name)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    size_t from = p->words.len;
    while (n > 0 && p->words.len - from <= TXN_BYTES_MAX) {
        if (!buffer_reserve(&p->words, 65536))
            break;
        do
            n = read(fd, p->words.data + p->words.len, 65536);
        while (n < 0 && errno == EINTR);
        p->words.len += n > 0 ? (size_t)n : 0;
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (p->words.failed)
        return fail_memory(p);
    return n >= 0 || fail_at(p, at, "%s: %s", name, strerror(error));
}

/* The rest of the line; "…", or @FILE. */
static bool take_value(struct parse *p, struct bytes *out)
{
    size_t from = p->words.len;
    const char *at;
    if (p->at < p->end)
        p->at++; /* one blank */
    at = p->at;
    if (at < p->end && *at == '"')
        return take_word(p, "a value", out);
    p->at = p->end;
    if (at < p->end && *at == '@') {
        char *name = strndup(at + 1, (size_t)(p->end - at - 1));
        bool good = name != NULL ? read_file(p, at, name) : fail_memory(p);
        free(name);
        if (!good)
            return false;
    } else {
        buffer_put_bytes(&p->words, at, (size_t)(p->end - at));
    }
    if (p->words.failed)
        return fail_memory(p);
    *out = bytes_of(p->words.data + from, p->words.len - from);
    return true;
}

static bool is_word(const struct bytes *w, const char *text)
{
    return w->len == strlen(text) && memcmp(w->data, text, w->len) == 0;
}

static bool take_number(struct parse *p, const char *what, const char *expected, uint64_t *out)
{
    struct bytes w;
    char text[32];
    skip_blanks(p);
    const char *at = p->at;
    if (!take_word(p, what, &w))
        return false;
    snprintf(text, sizeof text, "%.*s", (int)(w.len < sizeof text ? w.len : sizeof text - 1),
             (const char *)w.data);
    return (w.len < sizeof text && admin_parse_number(text, 0, UINT64_MAX, out)) ||
           fail_at(p, at, "%s is what comes here", expected);
}

static bool parse_if(struct parse *p, struct txn_item *item, struct bytes *key, struct bytes *value)
{
    struct bytes how;
    if (!take_key(p, key))
        return false;
    skip_blanks(p);
    const char *at = p->at;
    if (!take_word(p, "version N, fence N, missing, exists or value V", &how))
        return false;
    if (is_word(&how, "version")) {
        item->kind = TXN_IF_VERSION;
        return take_number(p, "a version's number", "a version's number, or 0 for a key that must not exist,",
                           &item->version);
    }
    if (is_word(&how, "fence")) {
        item->kind = TXN_IF_FENCE;
        return take_number(p, "a fence", "the number that kvnode hold gives as KVNODE_FENCE", &item->fence);
    }
    if (is_word(&how, "value")) {
        item->kind = TXN_IF_VALUE;
        return take_value(p, value);
    }
    item->kind = is_word(&how, "missing") ? TXN_IF_MISSING : TXN_IF_EXISTS;
    return item->kind == TXN_IF_MISSING || is_word(&how, "exists") ||
           fail_at(p, at, "version N, fence N, missing, exists or value V is what comes here");
}

static bool parse_set(struct parse *p, struct txn_item *item, struct bytes *key, struct bytes *value)
{
    item->kind = TXN_SET;
    if (!take_key(p, key) || !take_value(p, value))
        return false;
    p->values += value->len;
    return p->values <= TXN_BYTES_MAX || fail_at(p, p->begin, "all values together are over 64 MiB");
}

/* p->at is at its first word. */
static bool parse_line(struct parse *p)
{
    struct txn_item item = {0};
    struct bytes word, key = {0}, to = {0}, value = {0};
    const char *at = p->at;
    bool good;
    buffer_clear(&p->words);
    if (!buffer_reserve(&p->words, (size_t)(p->end - p->begin) + 1)) /* nothing of it moves, but by a file */
        return fail_memory(p);
    if (!take_word(p, "a word", &word))
        return false;
    if (is_word(&word, "if")) {
        good = parse_if(p, &item, &key, &value);
    } else if (is_word(&word, "set")) {
        good = parse_set(p, &item, &key, &value);
    } else if (is_word(&word, "del") || is_word(&word, "mkdir")) {
        item.kind = is_word(&word, "del") ? TXN_DEL : TXN_MKDIR;
        good = take_key(p, &key);
    } else if (is_word(&word, "move")) {
        item.kind = TXN_MOVE;
        good = take_key(p, &key) && take_key(p, &to);
    } else {
        item.kind = TXN_ELSE;
        good = is_word(&word, "else") || fail_at(p, at, "if, set, del, move, mkdir or else begins a line");
    }
    if (!good)
        return false;
    skip_blanks(p);
    if (p->at < p->end)
        return fail_at(p, p->at, "nothing more is expected here");
    if (txn_is_comparison(item.kind) && p->operations)
        return fail_at(p, at, "all comparisons stand before the first operation");
    if (item.kind == TXN_ELSE && p->otherwise)
        return fail_at(p, at, "there is an else already");
    if (p->n - p->otherwise >= TXN_ITEMS_MAX)
        return fail_at(p, at, "a transaction has at most %d comparisons and operations", TXN_ITEMS_MAX);
    p->operations = p->operations || !txn_is_comparison(item.kind);
    p->otherwise = p->otherwise || item.kind == TXN_ELSE;
    /* Where they are now. */
    item.path = key.data != NULL ? p->words.data + word.len : NULL;
    item.path_len = key.len;
    item.to = to.data;
    item.to_len = to.len;
    item.value = value.data;
    item.value_len = value.len;
    txn_encode(&p->body, &item);
    return !p->body.failed || fail_memory(p);
}

static bool parse_text(struct parse *p, const struct buffer *text)
{
    const char *at = (const char *)text->data, *end = at + text->len;
    for (unsigned number = 1; at < end; number++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (p->n == p->cap) {
            size_t cap = p->cap > 0 ? 2 * p->cap : 64;
            struct line *lines = reallocarray(p->lines, cap, sizeof *lines);
            if (lines == NULL)
                return fail_memory(p);
            p->lines = lines;
            p->cap = cap;
        }
        p->begin = p->at = at;
        p->end = stop != NULL ? stop : end;
        if (p->end > p->at && p->end[-1] == '\r')
            p->end--;
        p->lines[p->n].number = number;
        snprintf(p->lines[p->n].what, sizeof p->lines[p->n].what, "%.*s",
                 (int)(p->end - p->at < 80 ? p->end - p->at : 80), at);
        skip_blanks(p);
        if (p->at < p->end && *p->at != '#') {
            if (!parse_line(p))
                return false;
            p->n++;
        }
        at = stop != NULL ? stop + 1 : end;
    }
    if (p->n == 0) {
        p->exit = admin_fail(p->a, EXIT_USAGE, NULL, "%s has nothing to do in it", p->file);
        return false;
    }
    return true;
}

static int read_text(const struct admin *a, const char *file, struct buffer *text)
{
    bool in = strcmp(file, "-") == 0;
    int fd = in ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && text->len <= TEXT_MAX && buffer_reserve(text, 65536)) {
        do
            n = read(fd, text->data + text->len, 65536);
        while (n < 0 && errno == EINTR);
        text->len += n > 0 ? (size_t)n : 0;
    }
    int error = text->failed ? ENOMEM : errno;
    if (fd >= 0 && !in)
        close(fd);
    if (text->len > TEXT_MAX)
        return admin_fail(a, EXIT_REFUSED, NULL, "%s is larger than any transaction; nothing was done", file);
    if (n < 0 || text->failed)
        return admin_fail(a, EXIT_FAILED, NULL, "%s: %s; nothing was done", file, strerror(error));
    return EXIT_OK;
}

/* What came of it, with the line that decided. */
static int report(const struct parse *p, struct request_link *l, int rc, const struct command_result *r)
{
    const struct admin *a = p->a;
    const struct line *line = r->removed > 0 && r->removed <= p->n ? &p->lines[r->removed - 1] : NULL;
    bool executed = rc == KV_OK || r->revision > 0;
    char revision[32], subject[320];
    format_revision(r->revision, revision, sizeof revision);
    if (a->opt[OPT_JSON] != NULL && executed) {
        json_t *object = json_pack("{s:b, s:s}", "done", rc == KV_OK, "revision", revision);
        if (rc == KV_OK)
            json_object_set_new(object, "branch", json_string(r->created != 0 ? "then" : "else"));
        if (line != NULL) {
            json_object_set_new(object, "line", json_integer(line->number));
            json_set_bytes(object, "text", line->what, strlen(line->what));
        }
        if (rc != KV_OK)
            json_object_set_new(object, "reason", json_string(error_text(rc)));
        json_line(object);
    }
    if (rc == KV_OK) {
        admin_detail(a, "done, revision %s%s", revision, r->created != 0 ? "" : " (else)");
        return EXIT_OK;
    }
    if (line == NULL)
        return cluster_fail(l, p->file, rc, true);
    snprintf(subject, sizeof subject, "%s, line %u", p->file, line->number);
    if (rc == KV_E_VERSION)
        return admin_fail(a, EXIT_VERSION, subject, "this does not hold: %s; nothing was done", line->what);
    if (rc == KV_E_INVAL)
        return admin_fail(a, EXIT_REFUSED, subject,
                          "%s: it cannot be done, or a line before it has changed the same name or file; "
                          "nothing was done",
                          line->what);
    if (rc == KV_E_FBIG)
        return admin_fail(
            a, EXIT_REFUSED, subject,
            "the value is larger than value_limit, or all lines together change more than 1,536 "
            "names, or take away more than 256 MiB; nothing was done");
    snprintf(subject, sizeof subject, "%s, line %u: %s", p->file, line->number, line->what);
    return cluster_fail(l, subject, rc, true);
}

static int send(struct parse *p)
{
    const struct command_body body = {.items = p->body.data, .items_len = p->body.len};
    struct command_result result = {0};
    struct request_link l;
    int exit = request_open(p->a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = p->body.len + 64 > l.node.part_size ? request_register(&l, "kvnode txn") : 0;
    if (rc == 0)
        rc = request_write(&l, COMMAND_TXN, &body, &result);
    request_end_session(&l);
    exit = report(p, &l, rc, &result);
    request_close(&l);
    return exit;
}

int verb_txn(struct admin *a)
{
    struct parse p = {.a = a, .file = a->n_args > 0 ? a->args[0] : "-"};
    struct buffer text = BUFFER_INIT;
    if (strcmp(p.file, "-") == 0 && isatty(STDIN_FILENO))
        return admin_usage(a, "no FILE, and standard input is a terminal; give a FILE, or - to type it");
    p.exit = read_text(a, p.file, &text);
    if (strcmp(p.file, "-") == 0)
        p.file = "standard input";
    if (p.exit == EXIT_OK && parse_text(&p, &text))
        p.exit = send(&p);
    buffer_deinit(&text);
    buffer_deinit(&p.words);
    buffer_deinit(&p.body);
    free(p.lines);
    return p.exit;
}
