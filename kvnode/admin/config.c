/* config: every setting with its source; --peer: what other machines need. */
#include "kvnode/admin/format.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <string.h>

#include "kvnode/config.h"
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
    int rc = identity_read_public(c->client_key, key);
    if (rc != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "%s: %s. Try: kvnode doctor", c->client_key, strerror(-rc));
    /* Through the system's sshd the others see the system's host key. */
    const char *host_path = c->private_sshd ? c->host_key : SYSTEM_HOST_KEY;
    rc = c->private_sshd ? identity_read_public(host_path, host_key) : read_public_file(host_path, host_key);
    if (rc != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "%s: %s. Try: kvnode doctor", host_path, strerror(-rc));
    if (strcmp(c->listen_host, "0.0.0.0") == 0 || strcmp(c->listen_host, "::") == 0)
        admin_say(a,
                  "kvnode: the address below is no address that others can dial; put this machine's there");
    printf("[peer %s]\nid = %u\naddress = ", c->name, (unsigned)c->id);
    printf(strchr(c->listen_host, ':') != NULL ? "[%s]:%u" : "%s:%u", c->listen_host,
           (unsigned)c->listen_port);
    printf("\nuser = %s\nhost_key = %s\nkey = %s\n", c->ssh_user, host_key, key);
    return EXIT_OK;
}

int verb_config(struct admin *a)
{
    struct config *c;
    const char *last = NULL;
    int exit = admin_config(a, &c);
    if (exit != EXIT_OK)
        return exit;
    if (a->opt[OPT_PEER] != NULL) {
        exit = print_own_section(a, c);
    } else {
        config_each(c, &last, a->opt[OPT_JSON] != NULL ? print_json : print_text);
        print_peers(a, c);
    }
    config_free(c);
    return exit;
}
