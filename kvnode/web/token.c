#include "kvnode/web/token.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/error.h"
#include "sync/wire/attr.h"

#define ALPHANUMERIC "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define WORDS_MAX 4

/* Where the parser is, and what it has found wrong. */
struct reader {
    struct tokens *out;
    unsigned line;
    bool bad;
    char *why; /* TOKEN_WHY_MAX */
    size_t why_len;
};

__attribute__((format(printf, 2, 3))) static void complain(struct reader *r, const char *fmt, ...)
{
    char text[300];
    va_list ap;
    int n;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->bad = true;
    n = snprintf(r->why + r->why_len, TOKEN_WHY_MAX - r->why_len, "%sline %u: %s", r->why_len > 0 ? "; " : "",
                 r->line, text);
    if (n > 0 && r->why_len + (size_t)n < TOKEN_WHY_MAX)
        r->why_len += (size_t)n;
    else
        r->why[r->why_len] = '\0'; /* those that there is room for */
}

static bool is_name(const char *text)
{
    size_t len = strlen(text);

    return len <= COMMAND_LABEL_MAX && strspn(text, ALPHANUMERIC "._-") == len;
}

static bool is_secret(const char *text)
{
    size_t len = strlen(text), n = strspn(text, ALPHANUMERIC "-._~+/");

    return len >= TOKEN_MIN && len <= TOKEN_MAX && n > 0 && n + strspn(text + n, "=") == len;
}

static bool take_prefix(struct reader *r, struct token *t, const char *path)
{
    char why[256];
    size_t len;

    if (key_check(path, true, why, sizeof why) != KV_OK || path[0] == '\0' || path[0] == '/') {
        complain(r, "prefix= names a key, such as prefix=app");
        return false;
    }
    free(t->prefix);
    t->prefix = strdup(path);
    if (t->prefix == NULL)
        return false;
    len = strlen(t->prefix);
    if (t->prefix[len - 1] == '/')
        t->prefix[len - 1] = '\0';
    return true;
}

static bool take_option(struct reader *r, struct token *t, const char *word)
{
    if (strcmp(word, "read-only") == 0 && !t->read_only) {
        t->read_only = true;
        return true;
    }
    if (strncmp(word, "prefix=", strlen("prefix=")) == 0 && t->prefix[0] == '\0')
        return take_prefix(r, t, word + strlen("prefix="));
    complain(r, "what follows NAME TOKEN is read-only and prefix=PATH, once each");
    return false;
}

static bool is_new(struct reader *r, const struct token *t)
{
    size_t i;

    for (i = 0; i < r->out->n; i++) {
        if (strcmp(r->out->all[i]->name, t->name) == 0) {
            complain(r, "a second token for %s", t->name);
            return false;
        }
        if (strcmp(r->out->all[i]->secret, t->secret) == 0) {
            complain(r, "%s has the token of %s", t->name, r->out->all[i]->name);
            return false;
        }
    }
    return true;
}

static bool fill(struct reader *r, struct token *t, char **words, size_t n)
{
    size_t i;

    if (!is_name(words[0])) {
        complain(r, "a NAME has 1 to %d of A-Z a-z 0-9 . _ -", COMMAND_LABEL_MAX);
        return false;
    }
    if (n < 2 || !is_secret(words[1])) {
        complain(r,
                 "%s needs a TOKEN of %d to %d of A-Z a-z 0-9 - . _ ~ + /, as `openssl rand -hex 32` makes",
                 words[0], TOKEN_MIN, TOKEN_MAX);
        return false;
    }
    memcpy(t->name, words[0], strlen(words[0]));
    memcpy(t->secret, words[1], strlen(words[1]));
    for (i = 2; i < n; i++)
        if (!take_option(r, t, words[i]))
            return false;
    return is_new(r, t);
}

/* 0, or -ENOMEM; what else is wrong is noted. */
static int take_line(struct reader *r, char *line)
{
    char *words[WORDS_MAX + 1], *rest = line, *word;
    struct token *t;
    size_t n = 0;

    while (n <= WORDS_MAX && (word = strtok_r(rest, " \t\r", &rest)) != NULL)
        words[n++] = word;
    if (n == 0 || words[0][0] == '#')
        return 0;
    if (n > WORDS_MAX) {
        complain(r, "there is more than NAME TOKEN read-only prefix=PATH");
        return 0;
    }
    if (r->out->n == TOKENS_MAX) {
        complain(r, "there are more than %d tokens", TOKENS_MAX);
        return 0;
    }
    t = calloc(1, sizeof *t);
    if (t == NULL)
        return -ENOMEM;
    t->refs = 1;
    t->prefix = strdup("");
    if (t->prefix != NULL && fill(r, t, words, n)) {
        r->out->all[r->out->n++] = t;
        return 0;
    }
    n = t->prefix != NULL;
    token_put(t);
    return n > 0 ? 0 : -ENOMEM;
}

int tokens_parse(const char *text, size_t len, struct tokens *out, char why[TOKEN_WHY_MAX])
{
    struct reader r = {.out = out, .why = why};
    char *copy = malloc(len + 1), *line = copy, *end;
    int rv = 0;

    why[0] = '\0';
    *out = (struct tokens){.all = calloc(TOKENS_MAX, sizeof out->all[0])};
    if (copy == NULL || out->all == NULL)
        rv = -ENOMEM;
    if (rv == 0) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    while (rv == 0 && line < copy + len) {
        r.line++;
        end = memchr(line, '\n', (size_t)(copy + len - line));
        if (end == NULL)
            end = copy + len;
        *end = '\0';
        if (strlen(line) != (size_t)(end - line))
            complain(&r, "a NUL byte");
        else
            rv = take_line(&r, line);
        line = end + 1;
    }
    if (copy != NULL)
        explicit_bzero(copy, len);
    free(copy);
    if (rv == 0 && r.bad)
        rv = -EINVAL;
    if (rv == -ENOMEM)
        snprintf(why, TOKEN_WHY_MAX, "out of memory");
    if (rv != 0)
        tokens_free(out);
    return rv;
}

/* The whole file; less than size. -errno. */
static ssize_t read_all(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n;

    while ((n = read(fd, out + len, size - len)) > 0)
        len += (size_t)n;
    return n < 0 ? -errno : len == size ? -EFBIG : (ssize_t)len;
}

static int check_file(const struct stat *st, char why[TOKEN_WHY_MAX])
{
    if (!S_ISREG(st->st_mode))
        snprintf(why, TOKEN_WHY_MAX, "it is no file");
    else if (st->st_uid != 0 && st->st_uid != geteuid())
        snprintf(why, TOKEN_WHY_MAX, "it belongs to uid %u, not to the node's user or root",
                 (unsigned)st->st_uid);
    else if ((st->st_mode & 077) != 0)
        snprintf(why, TOKEN_WHY_MAX, "others than its owner may read or write it: chmod 600");
    else
        return 0;
    return -EACCES;
}

int tokens_read(const char *path, struct tokens *out, struct stat *st_out, char why[TOKEN_WHY_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rv = 0;
    char *text = malloc(TOKEN_FILE_MAX);
    ssize_t len = 0;

    *out = (struct tokens){0};
    if (fd < 0 || text == NULL || fstat(fd, st_out) != 0) {
        rv = -errno;
        snprintf(why, TOKEN_WHY_MAX, "%s", strerror(-rv));
    }
    if (rv == 0)
        rv = check_file(st_out, why);
    if (rv == 0 && (len = read_all(fd, text, TOKEN_FILE_MAX)) < 0) {
        rv = (int)len;
        snprintf(why, TOKEN_WHY_MAX, "%s", strerror(-rv));
    }
    if (rv == 0)
        rv = tokens_parse(text, (size_t)len, out, why);
    if (text != NULL)
        explicit_bzero(text, TOKEN_FILE_MAX);
    free(text);
    if (fd >= 0)
        close(fd);
    return rv;
}

static bool is_same(const struct token *a, const struct token *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->secret, b->secret) == 0 &&
           a->read_only == b->read_only && strcmp(a->prefix, b->prefix) == 0;
}

void tokens_replace(struct tokens *t, struct tokens *young)
{
    size_t i, j;

    for (i = 0; i < t->n; i++) {
        for (j = 0; j < young->n; j++)
            if (is_same(t->all[i], young->all[j]))
                break;
        if (j == young->n) {
            t->all[i]->revoked = true;
        } else {
            token_put(young->all[j]);
            young->all[j] = token_ref(t->all[i]);
        }
    }
    tokens_free(t);
    *t = *young;
    *young = (struct tokens){0};
}

void tokens_free(struct tokens *t)
{
    while (t->n > 0)
        token_put(t->all[--t->n]);
    free(t->all);
    t->all = NULL;
}

/* All bytes of all tokens are looked at. */
struct token *tokens_find(const struct tokens *t, const char *secret)
{
    char given[TOKEN_MAX + 1] = "";
    struct token *found = NULL;
    size_t len = strlen(secret), i;

    if (len < TOKEN_MIN || len > TOKEN_MAX)
        return NULL;
    memcpy(given, secret, len);
    for (i = 0; i < t->n; i++)
        if (CRYPTO_memcmp(given, t->all[i]->secret, sizeof given) == 0)
            found = t->all[i];
    return found;
}

struct token *token_ref(struct token *t)
{
    t->refs++;
    return t;
}

void token_put(struct token *t)
{
    if (t == NULL || --t->refs > 0)
        return;
    explicit_bzero(t->secret, sizeof t->secret);
    free(t->prefix);
    free(t);
}

bool token_covers(const struct token *t, const void *key, size_t len)
{
    const char *at = key;
    size_t n;

    if (t == NULL || (n = strlen(t->prefix)) == 0)
        return true;
    if (len > 0 && *at == '/') {
        at++;
        len--;
    }
    return len >= n && memcmp(at, t->prefix, n) == 0 && (len == n || at[n] == '/');
}
