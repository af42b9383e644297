/* Tokens of requests (token.h). Over a unix socket and over loopback the kernel says who somebody is, and a
 * token only narrows that: who brings one is served as its bearer. From elsewhere, and for users whom
 * socket_mode does not let in, a token is needed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kvnode/config/config.h"
#include "kvnode/peer/self.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/log.h"

static const char *token_file(const struct web *w)
{
    return w->owner.self->config->http_token_file;
}

bool access_by_token(const struct web *w)
{
    return token_file(w)[0] != '\0';
}

int access_start(struct web *w, char *why)
{
    char text[TOKEN_WHY_MAX];
    int rv;

    if (!access_by_token(w))
        return 0;
    rv = tokens_read(token_file(w), &w->tokens, &w->token_stat, text);
    if (rv != 0)
        snprintf(why, 512, "[http] token_file = %.150s: %.300s", token_file(w), text);
    return rv;
}

static bool has_changed(const struct stat *a, const struct stat *b)
{
    return a->st_ino != b->st_ino || a->st_dev != b->st_dev || a->st_size != b->st_size ||
           a->st_mode != b->st_mode || a->st_uid != b->st_uid ||
           memcmp(&a->st_mtim, &b->st_mtim, sizeof a->st_mtim) != 0 ||
           memcmp(&a->st_ctim, &b->st_ctim, sizeof a->st_ctim) != 0;
}

void access_beat(struct web *w)
{
    char why[TOKEN_WHY_MAX];
    struct tokens young;
    struct stat st = {0}; /* stays so if there is no file */
    int rv;

    if (!access_by_token(w))
        return;
    (void)!stat(token_file(w), &st);
    if (!has_changed(&st, &w->token_stat))
        return;
    w->token_stat = st;
    rv = tokens_read(token_file(w), &young, &st, why);
    if (rv == 0) {
        tokens_replace(&w->tokens, &young);
        log_info("[http] token_file was read anew: tokens for %zu", w->tokens.n);
        events_revoke(w);
    } else {
        log_error("[http] token_file = %s: %s; the tokens of before stay in force", token_file(w), why);
    }
}

void access_stop(struct web *w)
{
    tokens_free(&w->tokens);
}

static void refuse(struct web_request *r, bool wrong)
{
    struct MHD_Response *response =
        web_json(json_pack("{s:s, s:i}", "error",
                           wrong ? "nobody has this token; nothing was read or written"
                                 : "a token is needed, `Authorization: Bearer TOKEN`, one of the file that "
                                   "[http] token_file names; nothing was read or written",
                           "status", 401));

    if (response != NULL)
        web_header_add(response, "WWW-Authenticate", "Bearer realm=\"kvfs\"%s",
                       wrong ? ", error=\"invalid_token\"" : "");
    web_reply(r, 401, response);
}

/* What balancers ask for. */
static bool is_open(const char *raw)
{
    size_t len = strcspn(raw, "?");

    return (len == strlen("/livez") && memcmp(raw, "/livez", len) == 0) ||
           (len == strlen("/readyz") && memcmp(raw, "/readyz", len) == 0);
}

bool access_check(struct web_request *r, const char *raw)
{
    const char *given = web_header(r, "Authorization");
    bool bears = given != NULL && strncasecmp(given, "Bearer ", strlen("Bearer ")) == 0;
    struct token *t = NULL;

    if (access_by_token(r->web) && bears) {
        given += strlen("Bearer ");
        t = tokens_find(&r->web->tokens, given + strspn(given, " "));
        if (t == NULL) {
            refuse(r, true);
            return false;
        }
        r->token = token_ref(t);
        return true;
    }
    if (!r->conn->needs_token || is_open(raw))
        return true;
    refuse(r, false);
    return false;
}

bool access_covers(struct web_request *r, const char *key, size_t len)
{
    if (token_covers(r->token, key, len))
        return true;
    web_fail(r, 403, "the token of %s is for %.300s and what is below it; nothing was read or written",
             r->token->name, r->token->prefix);
    return false;
}

void access_who(const struct web_request *r, struct web_who *who_out)
{
    *who_out = r->conn->who;
    if (r->token == NULL)
        return;
    *who_out = (struct web_who){.uid = geteuid()};
    peer_groups(who_out);
    snprintf(who_out->label, sizeof who_out->label, "%s", r->token->name);
}
