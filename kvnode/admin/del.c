#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <string.h>

/* Goes on after a key that fails; the exit status is the first failure's. */
int verb_del(struct admin *a)
{
    struct request_link l;
    int exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    for (int i = 0; i < a->n_args; i++) {
        const char *key = a->args[i];
        const struct command_body body = {
            .path = (const uint8_t *)key, .path_len = strlen(key), .flags = a->opt[OPT_RECURSIVE] != NULL};
        struct command_result result;
        uint64_t removed = 0;
        int rc, refused = admin_key(a, key, false, true);
        if (refused != EXIT_OK) {
            exit = exit != EXIT_OK ? exit : refused;
            continue;
        }
        request_restart_clock(&l);
        do {
            rc = request_write(&l, COMMAND_DEL, &body, &result);
            removed += result.removed;
        } while (result.removed > 0 && request_again(&l, rc)); /* it was done partly */
        if (rc != 0) {
            int failed =
                removed > 0 ? cluster_fail_partly(&l, key, rc, removed) : cluster_fail(&l, key, rc, true);
            exit = exit != EXIT_OK ? exit : failed;
            if (rc < 0)
                break;
        } else if (a->opt[OPT_JSON] != NULL) {
            char revision[32];
            format_revision(result.revision, revision, sizeof revision);
            json_t *object = json_pack("{s:I, s:s}", "removed", (json_int_t)removed, "revision", revision);
            json_set_bytes(object, "key", key, strlen(key));
            json_line(object);
        }
    }
    request_close(&l);
    return exit;
}
