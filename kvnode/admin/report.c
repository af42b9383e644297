/* What went wrong, said once and in one form: who, what, why, what happened to
 * the data, and what to try. This is the one place where a code becomes an exit
 * status. */
#include "kvnode/admin/format.h"
#include "kvnode/admin/admin.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "kvnode/config/config.h"
#include "sync/base/error.h"

/* Longer subjects are shown by their beginning and their end. */
#define SUBJECT_MAX 120
#define REASON_MAX 720

static void put_subject(const char *subject)
{
    size_t len = strlen(subject), half = SUBJECT_MAX / 2;

    if (len <= SUBJECT_MAX) {
        format_name(stderr, subject, len, true);
        return;
    }
    while (half > 0 && (subject[half] & 0xC0) == 0x80) /* not inside a character */
        half--;
    format_name(stderr, subject, half, true);
    fputs("…", stderr);
    subject += len - SUBJECT_MAX / 2;
    while ((*subject & 0xC0) == 0x80)
        subject++;
    format_name(stderr, subject, strlen(subject), true);
}

static void prefix(const struct admin *a, const char *subject)
{
    fputs("kvnode:", stderr);
    if (a->verb != NULL)
        fprintf(stderr, " %s", a->verb->name);
    if (subject != NULL) {
        fputc(' ', stderr);
        put_subject(subject);
    }
    fputs(a->verb != NULL || subject != NULL ? ": " : " ", stderr);
}

int admin_usage(const struct admin *a, const char *fmt, ...)
{
    va_list ap;
    prefix(a, NULL);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (a->verb != NULL)
        fprintf(stderr, ". Try: kvnode %s --help\n", a->verb->name);
    else
        fputs(". Try: kvnode --help\n", stderr);
    return EXIT_USAGE;
}

int admin_fail(const struct admin *a, int exit, const char *subject, const char *fmt, ...)
{
    va_list ap;
    prefix(a, subject);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return exit;
}

void admin_say(const struct admin *a, const char *fmt, ...)
{
    va_list ap;
    if (a->opt[OPT_QUIET] != NULL)
        return;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void admin_detail(const struct admin *a, const char *fmt, ...)
{
    va_list ap;
    if (a->opt[OPT_VERBOSE] == NULL)
        return;
    fputs("kvnode: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

int admin_exit_of(int code, bool written)
{
    switch (code) {
    case KV_OK:
        return EXIT_OK;
    case KV_E_NOENT:
    case KV_E_NOVERSION:
    case KV_E_STALE:
        return EXIT_NO_KEY;
    case KV_E_UNAVAILABLE:
    case KV_E_BUSY:
    case KV_E_NOTLEADER:
    case KV_E_ROFS:
        return EXIT_UNAVAILABLE;
    case KV_E_VERSION:
    case KV_E_FENCE:
        return EXIT_VERSION;
    case KV_E_UNKNOWN:
    case KV_E_SESSION:
        return EXIT_UNKNOWN;
    case KV_E_PROTOCOL:
    case KV_E_IO:
    case KV_E_DUPLICATE:
    case KV_E_PART:
        return EXIT_FAILED;
    case KV_E_INVAL:
    case KV_E_NAMETOOLONG:
    case KV_E_EXIST:
    case KV_E_NOTDIR:
    case KV_E_ISDIR:
    case KV_E_NOTEMPTY:
    case KV_E_ACCES:
    case KV_E_PERM:
    case KV_E_FBIG:
    case KV_E_NOSPC:
    case KV_E_LOOP:
    case KV_E_NOTSUP:
    case KV_E_REFUSED:
    case KV_E_NOATTR:
    case KV_E_MLINK:
        return EXIT_REFUSED;
    default:
        break;
    }
    if (code == -ETIMEDOUT || code == -ECONNRESET || code == -EPIPE || code == -EPROTO)
        return written ? EXIT_UNKNOWN : EXIT_UNAVAILABLE;
    return code == -ECONNREFUSED || code == -ENOENT ? EXIT_UNAVAILABLE : EXIT_FAILED;
}

static const char *outcome(int exit)
{
    switch (exit) {
    case EXIT_UNKNOWN:
        return "; it may or may not have been written";
    case EXIT_FAILED:
        return "";
    default:
        return "; nothing was written";
    }
}

static const char *advice(const struct admin *a, int exit, int code)
{
    if (code == KV_E_NOSPC)
        return ". Try: kvnode status";
    if (code == KV_E_ISDIR)
        return ". Try: kvnode ls";
    if (code == KV_E_NOVERSION)
        return ". Try: kvnode history";
    if (exit == EXIT_UNAVAILABLE && (code > 0 || code == -ETIMEDOUT) && a->verb != NULL &&
        a->opt[OPT_LOCAL] == NULL && (a->verb->options >> OPT_LOCAL & 1) != 0)
        return ". Try: kvnode doctor, or --local for what this node has";
    if (exit == EXIT_UNAVAILABLE)
        return ". Try: kvnode doctor";
    if (exit == EXIT_UNKNOWN)
        return ". Try: kvnode get and look, then kvnode status";
    return "";
}

static void reason(const struct admin *a, int code, const char *detail, char *text, size_t size)
{
    unsigned s = a->timeout_ms / 1000;
    size_t len;
    if (code == -ETIMEDOUT)
        snprintf(text, size,
                 s > 0 ? "no answer from the node for %u s" : "no answer from the node within %u ms",
                 s > 0 ? s : a->timeout_ms);
    else if (code == KV_E_UNAVAILABLE)
        snprintf(text, size, s > 0 ? "no leader for %u s" : "no leader within %u ms",
                 s > 0 ? s : a->timeout_ms);
    else if (code == -ECONNRESET || code == -EPIPE)
        snprintf(text, size, "the node closed the connection");
    else
        snprintf(text, size, "%s", code > 0 ? error_text(code) : strerror(-code));
    len = strlen(text);
    if (detail != NULL && detail[0] != '\0')
        snprintf(text + len, size - len, " (%s)", detail);
}

int admin_fail_code(const struct admin *a, const char *subject, int code, const char *detail, bool written)
{
    int exit = admin_exit_of(code, written);
    char text[REASON_MAX];
    reason(a, code, detail, text, sizeof text);
    return admin_fail(a, exit, subject, "%s%s%s", text, written ? outcome(exit) : "", advice(a, exit, code));
}

int admin_fail_partly(const struct admin *a, const char *subject, int code, const char *detail,
                      uint64_t removed)
{
    char text[REASON_MAX];
    reason(a, code, detail, text, sizeof text);
    return admin_fail(a, EXIT_UNKNOWN, subject,
                      "%s; %s%llu of the names below it were removed. To go on, repeat the command", text,
                      admin_exit_of(code, true) == EXIT_UNKNOWN ? "at least " : "",
                      (unsigned long long)removed);
}

int admin_key(const struct admin *a, const char *key, bool directory, bool written)
{
    char why[400];
    int code = key_check(key, directory, why, sizeof why);

    if (code == KV_OK)
        return EXIT_OK;
    return admin_fail(a, EXIT_REFUSED, key[0] != '\0' ? key : NULL, "%s%s", why,
                      written ? "; nothing was written" : "");
}

int admin_config(const struct admin *a, struct config **config_out)
{
    char message[1024];
    struct config_request request = {
        .file = a->opt[OPT_CONFIG], .name = a->opt[OPT_NODE], .flags = a->settings, .n_flags = a->n_settings};
    int rc = config_load(&request, config_out, message, sizeof message);
    if (rc == 0)
        return EXIT_OK;
    return admin_fail(a, rc == -EINVAL || rc == -ENOENT ? EXIT_USAGE : EXIT_FAILED, NULL, "%s", message);
}
