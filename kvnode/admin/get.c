/* get: nothing is printed before the last piece has come. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/value.h"
#include "kvnode/admin/verbs.h"

#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/wire/ttl.h"

/* Whatever else there is to say of the value does not fail for want of it. */
static void add_ttl(struct request_link *l, const struct value *v, const char *attribute, const char *member,
                    json_t *object)
{
    const union request_body body = {
        .getxattr = {.at = request_at(l), .ino = v->ino, .name = bytes_text(attribute)}};
    union answer_body answer;
    if (v->ino != 0 && request_ask(l, MESSAGE_GETXATTR, &body, &answer) == 0)
        json_object_set_new(
            object, member,
            json_stringn((const char *)answer.getxattr.value.data, answer.getxattr.value.len));
}

static void print(struct request_link *l, const struct value *v)
{
    const struct admin *a = l->admin;
    if (a->opt[OPT_JSON] == NULL) {
        if (v->data.len > 0)
            fwrite(v->data.data, 1, v->data.len, stdout);
        return;
    }
    char revision[32];
    format_revision(v->revision, revision, sizeof revision);
    json_t *object = json_pack("{s:I, s:s, s:I}", "version", (json_int_t)v->version, "revision", revision,
                               "size", (json_int_t)v->data.len);
    json_set_bytes(object, "key", a->args[0], strlen(a->args[0]));
    json_set_bytes(object, "value", v->data.data, v->data.len);
    add_ttl(l, v, XATTR_TTL, "ttl", object);
    add_ttl(l, v, XATTR_EXPIRES, "expires", object);
    json_line(object);
}

/* Whether the key has no value because of what it is; then the failure has been told. Links are followed by
 * mounts, whose paths they mean. */
static bool has_no_value(struct request_link *l, const char *key)
{
    union request_body body;
    union answer_body answer;
    struct attr attr;
    char *shown = NULL;
    request_restart_clock(l);
    if (request_resolve(l, key, l->admin->opt[OPT_LOCAL] != NULL, &attr) != 0)
        return false;
    if (attr.type == INODE_FIFO || attr.type == INODE_SOCKET) {
        admin_fail(l->admin, EXIT_REFUSED, key, "it is a %s: it has no value", format_type(attr.type));
        return true;
    }
    if (attr.type != INODE_SYMLINK)
        return false;
    body.readlink = (struct inode_request){.at = request_at(l), .ino = attr.ino};
    int rc = request_ask(l, MESSAGE_READLINK, &body, &answer);
    FILE *f = rc == 0 ? open_memstream(&shown, &(size_t){0}) : NULL;
    if (f != NULL) {
        format_name(f, answer.readlink.target.data, answer.readlink.target.len, true);
        fclose(f);
    }
    admin_fail(l->admin, EXIT_REFUSED, key, "it is a symbolic link%s%s", shown != NULL ? ", to " : "",
               shown != NULL ? shown : "");
    free(shown);
    return true;
}

int verb_get(struct admin *a)
{
    const char *key = a->args[0];
    uint64_t version = 0;
    if (a->opt[OPT_AT_VERSION] != NULL &&
        !admin_parse_number(a->opt[OPT_AT_VERSION], 1, UINT64_MAX, &version))
        return admin_usage(a, "--version %s: use a version's number; kvnode history lists them",
                           a->opt[OPT_AT_VERSION]);
    int exit = admin_key(a, key, false, false);
    if (exit != EXIT_OK)
        return exit;
    struct request_link l;
    struct value v = {.data = BUFFER_INIT};
    exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = version != 0 ? fetch_version(&l, key, version, &v)
                          : fetch_value(&l, key, a->opt[OPT_LOCAL] != NULL, &v);
    if (rc == 0)
        print(&l, &v);
    else if (rc == KV_E_INVAL && version == 0 && has_no_value(&l, key))
        exit = EXIT_REFUSED;
    else
        exit = cluster_fail(&l, key, rc, false);
    buffer_deinit(&v.data);
    request_close(&l);
    return exit;
}
