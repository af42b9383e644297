/* config: every setting with its source; --peer: what other machines need;
 * --cluster: the replicated settings. */
#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/config/config.h"
#include "sync/base/error.h"
#include "sync/ssh/identity.h"

#define SYSTEM_HOST_KEY "/etc/ssh/ssh_host_ed25519_key.pub"

static void print_json(void *arg, const char *section, const char *name, const char *value,
                       const char *source)
{
    json_line(json_pack("{s:s, s:s, s:s, s:s}", "section", section, "name", name, "value", value, "source",
                        source));
}

static void print_text(void *arg, const char *section, const char *name, const char *value,
                       const char *source)
{
    const char **last = arg;
    if (*last == NULL || strcmp(*last, section) != 0)
        printf("%s[%s]\n", *last != NULL ? "\n" : "", section);
    *last = section;
    char setting[160];
    snprintf(setting, sizeof setting, "%s = %s", name, value);
    printf("%-48s ; %s\n", setting, source);
}

static void print_peers(const struct admin *a, const struct config *c)
{
    for (size_t i = 0; i < c->n_peers; i++) {
        const struct config_peer *p = &c->peers[i];
        char address[300];
        snprintf(address, sizeof address, strchr(p->host, ':') != NULL ? "[%s]:%u" : "%s:%u", p->host,
                 (unsigned)p->port);
        if (a->opt[OPT_JSON] != NULL)
            json_line(json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s}", "section", "peer", "name", p->name,
                                "id", (int)p->id, "address", address, "user", p->user, "host_key",
                                p->host_key, "key", p->key));
        else
            printf("\n[peer %s]\nid = %u\naddress = %s\nuser = %s\nhost_key = %s\nkey = %s\n", p->name,
                   (unsigned)p->id, address, p->user, p->host_key, p->key);
    }
}

/* A .pub file: the private half is not ours to read. 0, -EINVAL or -errno. */
static int read_public_file(const char *path, char public_out[static IDENTITY_PUBLIC_MAX])
{
    char line[1024] = "";
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    bool read = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    line[strcspn(line, "\n")] = '\0';
    return read && identity_public_valid(line, public_out) ? 0 : -EINVAL;
}

/* The section that the other nodes' files need about this one. */
static int print_own_section(const struct admin *a, const struct config *c)
{
    char key[IDENTITY_PUBLIC_MAX], host_key[IDENTITY_PUBLIC_MAX];
    const char *of = a->opt[OPT_CONFIG] != NULL ? " -c " : "",
               *file = a->opt[OPT_CONFIG] != NULL ? a->opt[OPT_CONFIG] : "";
    int rc = identity_read_public(c->client_key, key);
    if (rc != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "%s: %s. Try: kvnode doctor%s%s", c->client_key,
                          strerror(-rc), of, file);
    /* Through the system's sshd the others see the system's host key. */
    const char *host_path = c->private_sshd ? c->host_key : SYSTEM_HOST_KEY;
    rc = c->private_sshd ? identity_read_public(host_path, host_key) : read_public_file(host_path, host_key);
    if (rc != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "%s: %s. Try: kvnode doctor%s%s", host_path, strerror(-rc),
                          of, file);
    if (strcmp(c->listen_host, "0.0.0.0") == 0 || strcmp(c->listen_host, "::") == 0)
        admin_say(a,
                  "kvnode: the address below is no address that others can dial; put this machine's there");
    printf("[peer %s]\nid = %u\naddress = ", c->name, (unsigned)c->id);
    printf(strchr(c->listen_host, ':') != NULL ? "[%s]:%u" : "%s:%u", c->listen_host,
           (unsigned)c->listen_port);
    printf("\nuser = %s\nhost_key = %s\nkey = %s\n", c->ssh_user, host_key, key);
    return EXIT_OK;
}

/* The unit's name is that of the file it runs: kvnode@n1 has /etc/kvnode/n1.conf. The
 * preferred node is this one; a mount that starts before it has a majority waits. */
static void print_fstab(const struct config *c)
{
    printf("%s /srv/kv kvfs _netdev,nofail,bg,allow_other,x-systemd.requires=kvnode@%s.service 0 0\n",
           c->name, c->name);
}

/* A limit below what there is takes nothing away. What it does is said when it is set. */
static void warn_below(const struct admin *a, struct request_link *l, const char *name, uint64_t value_limit)
{
    json_t *status = NULL;
    char used[32], limit[32];
    bool keys = strcmp(name, "max_keys") == 0, bytes = strcmp(name, "max_bytes") == 0;
    if (!keys && !bytes && strcmp(name, "value_limit") != 0)
        return;
    request_restart_clock(l);
    if (cluster_status(l, &status) == 0) {
        uint64_t now = (uint64_t)cluster_number(status, keys ? "keys" : "bytes"),
                 most = (uint64_t)cluster_number(status, name);
        if (keys && now > most)
            admin_say(
                a,
                "kvnode: max_keys: %llu keys are there, more than %llu: they all stay, and new ones are "
                "refused until fewer are left",
                (unsigned long long)now, (unsigned long long)most);
        format_size(now, used, sizeof used);
        format_size(most, limit, sizeof limit);
        if (bytes && now > most)
            admin_say(
                a,
                "kvnode: max_bytes: %s are used, more than %s: all of it stays, and what needs more room "
                "is refused until enough is deleted",
                used, limit);
        if (!keys && !bytes && most < value_limit)
            admin_say(
                a,
                "kvnode: value_limit: values longer than %s stay as they are and can be read, but not be "
                "written or restored at that length",
                limit);
    }
    json_decref(status);
}

/* Which members do not know the level, or cannot be asked. */
static int level_refused(const struct admin *a, struct request_link *l, const char *wanted)
{
    json_t *status = NULL, *m;
    char who[512] = "";
    size_t i, len = 0;
    request_restart_clock(l);
    if (cluster_status(l, &status) != 0)
        return cluster_fail(l, "feature_level", KV_E_REFUSED, true);
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        const int64_t known = cluster_number(m, "feature_level");
        const bool heard = strcmp(cluster_text(m, "role"), "-") != 0;
        if ((heard && known >= strtoll(wanted, NULL, 10)) || len >= sizeof who)
            continue;
        len += (size_t)snprintf(
            who + len, sizeof who - len, heard ? "%s%s (version %s) knows %lld" : "%s%s is not heard",
            len > 0 ? ", " : "", cluster_text(m, "name"), cluster_text(m, "version"), (long long)known);
    }
    const int64_t now = cluster_number(status, "feature_level");
    json_decref(status);
    if (len == 0 && strtoll(wanted, NULL, 10) > now)
        return admin_fail(a, EXIT_REFUSED, "feature_level",
                          "not yet: the leader has only just begun; nothing was written. Try again");
    if (len == 0)
        return admin_fail(a, EXIT_REFUSED, "feature_level",
                          "it is %lld, and can only rise; nothing was written", (long long)now);
    return admin_fail(a, EXIT_REFUSED, "feature_level",
                      "it rises when all nodes know the level: %s; nothing was written", who);
}

/* One NAME=VALUE. What is wrong with it is said before anything is sent, where that can be seen. */
static int change_setting(struct admin *a, struct request_link *l, const json_t *settings, const char *text)
{
    const char *equals = strchr(text, '=');
    char name[64];
    if (equals == NULL || equals == text || (size_t)(equals - text) >= sizeof name)
        return admin_usage(a, "%s: use NAME=VALUE", text);
    snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
    if (json_object_get(settings, name) == NULL)
        return admin_fail(a, EXIT_REFUSED, name,
                          "no such setting; kvnode config --cluster lists them; nothing was written");
    const struct command_body body = {.name = (const uint8_t *)name,
                                      .name_len = strlen(name),
                                      .value = (const uint8_t *)equals + 1,
                                      .value_len = strlen(equals + 1)};
    struct command_result result;
    request_restart_clock(l);
    const uint64_t value_limit = l->node.value_limit;
    int rc = request_write(l, COMMAND_SETTING, &body, &result);
    if (rc == KV_E_INVAL)
        return admin_fail(
            a, EXIT_REFUSED, name,
            "%s is no value for it, or out of its bounds (now %s; by default %s); nothing was written",
            equals + 1, cluster_text(json_object_get(settings, name), "value"),
            cluster_text(json_object_get(settings, name), "default"));
    if (rc == KV_E_REFUSED && strcmp(name, "feature_level") == 0)
        return level_refused(a, l, equals + 1);
    if (rc != 0)
        return cluster_fail(l, name, rc, true);
    warn_below(a, l, name, value_limit);
    return EXIT_OK;
}

static void print_settings(const struct admin *a, json_t *settings)
{
    const char *name;
    json_t *o;
    json_object_foreach(settings, name, o)
    {
        const char *value = cluster_text(o, "value"), *fallback = cluster_text(o, "default");
        char setting[160];
        if (a->opt[OPT_JSON] != NULL) {
            json_line(json_pack("{s:s, s:s, s:s}", "name", name, "value", value, "default", fallback));
            continue;
        }
        snprintf(setting, sizeof setting, "%s = %s", name, value);
        if (strcmp(value, fallback) == 0)
            printf("%s = %s\n", name, value);
        else
            printf("%-30s ; default: %s\n", setting, fallback);
    }
}

static int settings_of_cluster(struct admin *a)
{
    struct request_link l;
    json_t *settings = NULL;
    int exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = cluster_settings(&l, &settings);
    for (int i = 0; rc == 0 && i < a->n_args && exit == EXIT_OK; i++)
        exit = change_setting(a, &l, settings, a->args[i]);
    if (rc != 0)
        exit = cluster_fail(&l, NULL, rc, false);
    else if (a->n_args == 0)
        print_settings(a, settings);
    json_decref(settings);
    request_close(&l);
    return exit;
}

int verb_config(struct admin *a)
{
    if (a->opt[OPT_SETTINGS] != NULL)
        return a->opt[OPT_PEER] != NULL || a->opt[OPT_FSTAB] != NULL
                   ? admin_usage(a, "--cluster, --peer and --fstab exclude each other")
                   : settings_of_cluster(a);
    if (a->n_args > 0)
        return admin_usage(
            a, "%s: settings of a node are changed in its file; those of the cluster with --cluster",
            a->args[0]);
    struct config *c;
    const char *last = NULL;
    int exit = admin_config(a, &c);
    if (exit != EXIT_OK)
        return exit;
    if (a->opt[OPT_FSTAB] != NULL) {
        print_fstab(c);
    } else if (a->opt[OPT_PEER] != NULL) {
        exit = print_own_section(a, c);
    } else {
        config_each(c, &last, a->opt[OPT_JSON] != NULL ? print_json : print_text);
        print_peers(a, c);
    }
    config_free(c);
    return exit;
}
