/* set, upd: one command. A value that does not fit into one part travels in
 * pieces under a session of its own, which also makes a repetition after a lost
 * connection harmless. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/error.h"
#include "sync/wire/ttl.h"

/* Reads standard input to its end. 0, -EFBIG over the limit, -errno. */
static int read_input(struct buffer *b, uint64_t limit)
{
    for (;;) {
        if (!buffer_reserve(b, 65536))
            return -ENOMEM;
        ssize_t n = read(STDIN_FILENO, b->data + b->len, b->cap - b->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        b->len += (size_t)n;
        if (b->len > limit)
            return -EFBIG;
    }
}

static int send_value(struct request_link *l, const char *key, const struct buffer *value, uint8_t flags,
                      const struct command_body *how, struct command_result *result_out)
{
    struct command_body body = *how;
    body.path = (const uint8_t *)key;
    body.path_len = strlen(key);
    body.flags = flags;
    body.mode = 0644;
    body.value = value->data;
    body.value_len = value->len;
    bool big = value->len + body.path_len + 64 > l->node.part_size;
    int rc = big ? request_register(l, "kvnode set") : 0;
    if (rc == 0)
        rc = request_write(l, COMMAND_SET, &body, result_out);
    request_end_session(l);
    return rc;
}

static int report(struct admin *a, const struct command_result *r)
{
    char revision[32];
    format_revision(r->revision, revision, sizeof revision);
    if (a->opt[OPT_JSON] != NULL) {
        json_t *object = json_pack("{s:I, s:s, s:I, s:b}", "version", (json_int_t)r->attr.version, "revision",
                                   revision, "size", (json_int_t)r->attr.size, "created", r->created != 0);
        json_set_bytes(object, "key", a->args[0], strlen(a->args[0]));
        json_line(object);
    }
    admin_detail(a, "%s is version %llu, revision %s", a->args[0], (unsigned long long)r->attr.version,
                 revision);
    return EXIT_OK;
}

int verb_set(struct admin *a)
{
    const char *key = a->args[0];
    const char *given = a->n_args > 1 ? a->args[1] : NULL;
    uint8_t flags = strcmp(a->verb->name, "upd") == 0 ? SET_MUST_EXIST : SET_PARENTS;
    struct command_body how = {0};
    if (a->opt[OPT_TTL] != NULL) {
        if (!ttl_parse(a->opt[OPT_TTL], strlen(a->opt[OPT_TTL]), &how.ttl_ms))
            return admin_usage(
                a, "--ttl %s: use a time such as 500ms, 90s, 10m, 36h or 7d, of ten years at most",
                a->opt[OPT_TTL]);
        flags |= SET_TTL;
    }
    if (a->opt[OPT_IF_VERSION] != NULL) {
        if (!admin_parse_number(a->opt[OPT_IF_VERSION], 0, UINT64_MAX, &how.version))
            return admin_usage(a,
                               "--if-version %s: use a version's number, or 0 for a key that must not exist",
                               a->opt[OPT_IF_VERSION]);
        flags |= SET_IF_VERSION;
    }
    if (a->opt[OPT_FENCE] != NULL) {
        if (!admin_parse_number(a->opt[OPT_FENCE], 1, UINT64_MAX, &how.fence))
            return admin_usage(a, "--fence %s: use the number that kvnode hold gives as KVNODE_FENCE",
                               a->opt[OPT_FENCE]);
        flags |= SET_FENCE;
    }
    int exit = admin_key(a, key, false, true);
    if (exit != EXIT_OK)
        return exit;
    if (given == NULL && isatty(STDIN_FILENO))
        return admin_usage(a, "no VALUE, and standard input is a terminal; give VALUE, or - to type it");
    struct request_link l;
    struct buffer value = BUFFER_INIT;
    exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = 0;
    if (given != NULL && strcmp(given, "-") != 0)
        buffer_put_bytes(&value, given, strlen(given));
    else
        rc = read_input(&value, l.node.value_limit);
    if (rc == -EFBIG) {
        exit = cluster_fail_long(a, key, l.node.value_limit);
    } else if (rc != 0 || value.failed) {
        exit = admin_fail(a, EXIT_FAILED, key, "reading the value: %s; nothing was written",
                          strerror(rc != 0 ? -rc : ENOMEM));
    } else {
        struct command_result result;
        request_restart_clock(&l); /* typing takes its time */
        rc = send_value(&l, key, &value, flags, &how, &result);
        if (rc == KV_E_VERSION && l.detail[0] == '\0')
            snprintf(l.detail, sizeof l.detail, "it is %llu, not %llu",
                     (unsigned long long)result.base_version, (unsigned long long)how.version);
        if (rc == KV_E_FENCE && result.base_revision != 0)
            snprintf(l.detail, sizeof l.detail, "it is at %llu", (unsigned long long)result.base_revision);
        else if (rc == KV_E_FENCE)
            snprintf(
                l.detail, sizeof l.detail,
                "this key's lock has none: it was made anew, or never held; or the fence is of another key");
        exit = rc == 0 ? report(a, &result) : cluster_fail(&l, key, rc, true);
    }
    buffer_deinit(&value);
    request_close(&l);
    return exit;
}
