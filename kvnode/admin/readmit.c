/* readmit: a node that has gone back, or lost its data, begins anew under its id. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/error.h"

static int confirm(struct admin *a, const char *name)
{
    char answer[8] = "";

    if (a->opt[OPT_YES] != NULL)
        return EXIT_OK;
    if (!isatty(STDIN_FILENO))
        return admin_usage(a, "--yes is needed where nobody can be asked");
    fprintf(stderr,
            "%s throws its log and its state away, and gets both from the leader.\n"
            "If it alone has something that was acknowledged (other nodes are lost, too), put its data back "
            "instead.\n"
            "Go on? [yes/no] ",
            name);
    if (fgets(answer, sizeof answer, stdin) == NULL || strcmp(answer, "yes\n") != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "nothing was changed");
    return EXIT_OK;
}

static int no_such_node(const struct admin *a, const char *name)
{
    return admin_fail(a, EXIT_REFUSED, name, "no such node. Try: kvnode members");
}

/* Before anybody is asked to confirm it. */
static int check_name(struct request_link *l, const char *name)
{
    json_t *status, *m;
    bool found = false;
    size_t i;
    int rc = cluster_status(l, &status);
    if (rc != 0)
        return cluster_fail(l, name, rc, false);
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        found |= strcmp(cluster_text(m, "name"), name) == 0;
    }
    json_decref(status);
    return found ? EXIT_OK : no_such_node(l->admin, name);
}

int verb_readmit(struct admin *a)
{
    const char *name = a->args[0];
    struct request_link l;
    int rc, exit = request_open(a, &l);

    if (exit == EXIT_OK)
        exit = check_name(&l, name);
    if (exit == EXIT_OK)
        exit = confirm(a, name);
    if (exit == EXIT_OK) {
        request_restart_clock(&l);
        rc = cluster_admin(&l, json_pack("{s:s,s:s}", "command", "readmit", "node", name), NULL);
        if (rc == KV_E_NOENT)
            exit = no_such_node(a, name);
        else if (rc == KV_E_EXIST)
            exit = admin_fail(a, EXIT_REFUSED, name,
                              "has not gone back, as far as %s knows: nothing was changed", l.node.name);
        else if (rc != 0)
            exit = cluster_fail(&l, name, rc, false);
    }
    if (exit == EXIT_OK)
        admin_say(a, "%s begins anew, now or when it is started next", name);
    request_close(&l);
    return exit;
}
