/* restore: the leader's copy of an earlier version becomes the current one. The
 * content is read here and written back with its origin named, guarded by the
 * current version, so that a write in between is not overwritten unseen. Behind it the
 * extended attributes become those that the version had. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/value.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/wire/xattr.h"

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

/* Those of the version, copied; empty from a node that knows of none. */
static int fetch_xattrs(struct request_link *l, const char *key, uint64_t version, struct buffer *out)
{
    union request_body body = {.version_xattrs = {.version = version}};
    union answer_body answer;
    const char *name;
    size_t len;
    int rc = request_parent(l, key, &body.version_xattrs.directory, &name, &len);
    body.version_xattrs.name = bytes_of(name, rc == 0 ? len : 0);
    if (rc == 0)
        rc = request_ask(l, MESSAGE_VERSION_XATTRS, &body, &answer);
    if (rc == 0)
        buffer_put_bytes(out, answer.version_xattrs.xattrs.data, answer.version_xattrs.xattrs.len);
    if (rc == 0 && out->failed)
        rc = -ENOMEM;
    return rc == KV_E_NOTSUP ? 0 : rc;
}

/* Takes away what the inode has and the version had not. */
static int remove_others(struct request_link *l, uint64_t ino, const struct buffer *old)
{
    const union request_body body = {.listxattr = {.at = READ_LINEARIZABLE, .ino = ino}};
    struct buffer names = BUFFER_INIT;
    union answer_body answer;
    struct command_result result;
    int rc = request_ask(l, MESSAGE_LISTXATTR, &body, &answer);
    if (rc == KV_E_NOTSUP)
        return 0;
    if (rc == 0)
        buffer_put_bytes(&names, answer.listxattr.names.data, answer.listxattr.names.len);
    for (size_t at = 0; rc == 0 && at < names.len;) {
        const struct bytes name = bytes_text((const char *)names.data + at);
        const struct command_body gone = {.ino = ino, .name = name.data, .name_len = name.len};
        struct xattr x;
        at += name.len + 1;
        if (xattr_find(old->data, old->len, &name, &x))
            continue;
        rc = request_write(l, COMMAND_REMOVEXATTR, &gone, &result);
        if (rc == KV_E_NOATTR) /* somebody else was faster */
            rc = 0;
    }
    if (names.failed)
        rc = -ENOMEM;
    buffer_deinit(&names);
    return rc;
}

static int write_xattrs(struct request_link *l, uint64_t ino, const struct buffer *old)
{
    struct cursor c = cursor_of(old->data, old->len);
    struct command_result result;
    struct xattr x;
    int rc = remove_others(l, ino, old);
    while (rc == 0 && xattr_next(&c, &x) == 1) {
        const struct command_body body = {.ino = ino,
                                          .name = x.name.data,
                                          .name_len = x.name.len,
                                          .value = x.value.data,
                                          .value_len = x.value.len};
        request_restart_clock(l);
        rc = request_write(l, COMMAND_SETXATTR, &body, &result);
    }
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
    struct buffer xattrs = BUFFER_INIT;
    struct command_result result;
    bool restored = false;
    int exit = admin_key(a, key, false, true);
    if (exit != EXIT_OK)
        return exit;
    exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = fetch_version(&l, key, version, &old);
    if (rc == 0)
        rc = fetch_xattrs(&l, key, version, &xattrs);
    if (rc == 0)
        rc = write_back(&l, key, version, &old.data, &result);
    restored = rc == 0;
    if (rc == 0)
        rc = write_xattrs(&l, result.attr.ino, &xattrs);
    if (rc != 0) {
        exit = cluster_fail(&l, key, rc, true);
        if (restored)
            admin_fail(a, exit, key,
                       "its content is that of version %llu again, its extended attributes are not all",
                       (unsigned long long)version);
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
    buffer_deinit(&xattrs);
    request_close(&l);
    return exit;
}
