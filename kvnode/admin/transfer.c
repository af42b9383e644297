/* transfer: any node is asked, and passes it on to the leader. Then that node is looked
 * at until it follows another one. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <string.h>
#include <time.h>

#include "sync/base/error.h"

#define LOOK_MS 20
#define ASK_AGAIN_MS 1000

/* The leader, as the node knows it, in leader_out; "": none. KV_E_ROFS: in a minority nobody can be elected.
 */
static int read_leader(struct request_link *l, char *leader_out, size_t size)
{
    json_t *status;
    int rc = cluster_status(l, &status);
    if (rc == 0)
        snprintf(leader_out, size, "%s", cluster_text(status, "leader"));
    if (rc == 0 && json_is_true(json_object_get(status, "minority")))
        rc = KV_E_ROFS;
    json_decref(status);
    return rc;
}

static int ask(struct request_link *l, const char *to)
{
    json_t *command = json_pack("{s:s}", "command", "transfer");

    if (to != NULL)
        json_object_set_new(command, "to", json_string(to));
    return cluster_admin(l, command, NULL);
}

/* Waits until the node follows another one than before. The leader gives up when the
 * other one does not catch up or win within an election timeout: then it is asked once more. */
static int wait_for_successor(struct admin *a, struct request_link *l, const char *to, const char *before,
                              char *leader_out, size_t size)
{
    const struct timespec look_again = {.tv_nsec = LOOK_MS * 1000000};
    unsigned looks = 0;
    request_restart_clock(l);
    for (;;) {
        int rc = read_leader(l, leader_out, size);
        if (rc != 0)
            return cluster_fail(l, NULL, rc, false);
        if (leader_out[0] != '\0' && strcmp(leader_out, before) != 0)
            return EXIT_OK;
        if (request_left(l) == 0)
            return admin_fail(a, EXIT_FAILED, NULL, "%s still leads after %u s. Try: kvnode status", before,
                              a->timeout_ms / 1000);
        nanosleep(&look_again, NULL);
        if (leader_out[0] != '\0' && ++looks % (ASK_AGAIN_MS / LOOK_MS) == 0)
            ask(l, to); /* refused while the last attempt goes on */
    }
}

/* A node that has just lost its leader hears of the next one. */
static int wait_for_leader(struct request_link *l, char *leader_out, size_t size)
{
    const struct timespec look_again = {.tv_nsec = LOOK_MS * 1000000};
    int rc = read_leader(l, leader_out, size);
    while (rc == 0 && leader_out[0] == '\0' && request_left(l) > 0) {
        nanosleep(&look_again, NULL);
        rc = read_leader(l, leader_out, size);
    }
    return rc != 0 ? rc : leader_out[0] != '\0' ? 0 : KV_E_UNAVAILABLE;
}

int verb_transfer(struct admin *a)
{
    struct request_link l;
    char before[COMMAND_NODE_MAX + 1], leader[COMMAND_NODE_MAX + 1];
    const char *to = a->n_args > 0 ? a->args[0] : NULL;
    int exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = wait_for_leader(&l, before, sizeof before);
    if (rc == 0 && to != NULL && strcmp(to, before) == 0) {
        admin_say(a, "%s leads already", to);
        request_close(&l);
        return EXIT_OK;
    }
    if (rc == 0)
        rc = ask(&l, to);
    if (rc == KV_E_NOENT)
        exit = admin_fail(a, EXIT_REFUSED, to, "no such node. Try: kvnode members");
    else if (rc != 0)
        exit = cluster_fail(&l, to, rc, false);
    else
        exit = wait_for_successor(a, &l, to, before, leader, sizeof leader);
    if (exit == EXIT_OK && a->opt[OPT_JSON] != NULL)
        json_line(json_pack("{s:s}", "leader", leader));
    else if (exit == EXIT_OK)
        admin_say(a, "%s leads", leader);
    request_close(&l);
    return exit;
}
