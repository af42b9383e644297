/* restore: the leader's copy of an earlier version becomes the current one. The
 * content is read here and written back with its origin named, guarded by the
 * current version, so that a write in between is not overwritten unseen. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/value.h"
#include "kvnode/admin/verbs.h"

#include <string.h>

#include "sync/base/error.h"

static int write_back(struct request_link *l, const char *key, uint64_t version, const struct buffer *old,
                      struct command_result *result_out)
{
    struct attr now = {0};
    int rc = request_resolve(l, key, false, &now);
    if (rc == KV_E_NOENT)
        rc = 0;
    struct command_body body = {.path = (const uint8_t *)key,
                                .path_len = strlen(key),
                                .flags = SET_PARENTS | SET_IF_VERSION | SET_RESTORE,
                                .version = now.version,
                                .from_version = version,
                                .mode = now.ino != 0 ? now.mode : 0644,
                                .value = old->data,
                                .value_len = old->len};
    if (rc == 0 && old->len + body.path_len + 64 > l->node.part_size)
        rc = request_register(l, "kvnode restore");
    if (rc == 0)
        rc = request_write(l, COMMAND_SET, &body, result_out);
    request_end_session(l);
    return rc;
}

int verb_restore(struct admin *a)
{
    const char *key = a->args[0];
    uint64_t version;
    if (!admin_parse_number(a->args[1], 1, UINT64_MAX, &version))
        return admin_usage(a, "%s is no version; kvnode history %s lists them", a->args[1], key);
    struct request_link l;
    struct value old = {.data = BUFFER_INIT};
    struct command_result result;
    int exit = admin_key(a, key, false, true);
    if (exit != EXIT_OK)
        return exit;
    exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = fetch_version(&l, key, version, &old);
    if (rc == 0)
        rc = write_back(&l, key, version, &old.data, &result);
    if (rc != 0) {
        exit = cluster_fail(&l, key, rc, true);
    } else if (a->opt[OPT_JSON] != NULL) {
        char revision[32];
        format_revision(result.revision, revision, sizeof revision);
        json_t *object =
            json_pack("{s:I, s:I, s:s, s:I}", "version", (json_int_t)result.attr.version, "from_version",
                      (json_int_t)version, "revision", revision, "size", (json_int_t)result.attr.size);
        json_set_bytes(object, "key", key, strlen(key));
        json_line(object);
    } else {
        admin_say(a, "%s: version %llu is the content of version %llu", key,
                  (unsigned long long)result.attr.version, (unsigned long long)version);
    }
    buffer_deinit(&old.data);
    request_close(&l);
    return exit;
}
