/* transfer: only the leader can hand over, so it is asked itself, at its socket
 * on this machine. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <string.h>
#include <time.h>

#include "sync/base/error.h"

#define LOOK_MS 20
#define ASK_AGAIN_MS 1000

/* Makes l a connection to the leader. */
static int go_to_leader(struct admin *a, struct request_link *l)
{
    char socket[108], leader[COMMAND_NODE_MAX + 1];
    json_t *status;
    int rc = cluster_status(l, &status);
    if (rc != 0)
        return cluster_fail(l, NULL, rc, false);
    snprintf(leader, sizeof leader, "%s", cluster_text(status, "leader"));
    json_decref(status);
    if (leader[0] == '\0')
        return admin_fail_code(a, NULL, KV_E_UNAVAILABLE, "", false);
    if (strcmp(leader, l->node.name) == 0)
        return EXIT_OK;
    request_close(l);
    if (client_socket_path(leader, socket, sizeof socket) != 0 || request_open_socket(a, socket, l) != 0)
        return admin_fail(a, EXIT_UNAVAILABLE, NULL,
                          "%s leads, and its socket is not on this machine. Try: kvnode "
                          "transfer there",
                          leader);
    return EXIT_OK;
}

static int ask(struct request_link *l, const char *to)
{
    json_t *command = json_pack("{s:s}", "command", "transfer");

    if (to != NULL)
        json_object_set_new(command, "to", json_string(to));
    return cluster_admin(l, command, NULL);
}

/* Waits until this node follows another one. The other one gives up when it does not
 * catch up or win within an election timeout: then it is asked once more. */
static int wait_for_successor(struct admin *a, struct request_link *l, const char *to, char *leader_out,
                              size_t size)
{
    const struct timespec look_again = {.tv_nsec = LOOK_MS * 1000000};
    unsigned looks = 0;
    request_restart_clock(l);
    for (;;) {
        json_t *status;
        int rc = cluster_status(l, &status);
        if (rc != 0)
            return cluster_fail(l, NULL, rc, false);
        snprintf(leader_out, size, "%s", cluster_text(status, "leader"));
        json_decref(status);
        if (leader_out[0] != '\0' && strcmp(leader_out, l->node.name) != 0)
            return EXIT_OK;
        if (request_left(l) == 0)
            return admin_fail(a, EXIT_FAILED, NULL, "%s still leads after %u s. Try: kvnode status",
                              l->node.name, a->timeout_ms / 1000);
        nanosleep(&look_again, NULL);
        if (leader_out[0] != '\0' && ++looks % (ASK_AGAIN_MS / LOOK_MS) == 0)
            ask(l, to); /* refused while the last attempt goes on */
    }
}

int verb_transfer(struct admin *a)
{
    struct request_link l;
    char leader[COMMAND_NODE_MAX + 1];
    const char *to = a->n_args > 0 ? a->args[0] : NULL;
    int exit = request_open(a, &l);
    if (exit == EXIT_OK)
        exit = go_to_leader(a, &l);
    if (exit == EXIT_OK && to != NULL && strcmp(to, l.node.name) == 0) {
        admin_say(a, "%s leads already", to);
        request_close(&l);
        return EXIT_OK;
    }
    if (exit == EXIT_OK) {
        int rc = ask(&l, to);
        if (rc == KV_E_NOENT)
            exit = admin_fail(a, EXIT_REFUSED, to, "no such node. Try: kvnode members");
        else if (rc != 0)
            exit = cluster_fail(&l, to, rc, false);
    }
    if (exit == EXIT_OK)
        exit = wait_for_successor(a, &l, to, leader, sizeof leader);
    if (exit == EXIT_OK && a->opt[OPT_JSON] != NULL)
        json_line(json_pack("{s:s}", "leader", leader));
    else if (exit == EXIT_OK)
        admin_say(a, "%s leads", leader);
    request_close(&l);
    return exit;
}
