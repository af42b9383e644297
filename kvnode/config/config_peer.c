/* [peer NAME] sections. A node's own section, pasted along with the others', is
 * taken out at the end, so that the same text can go to every machine. */
#include "kvnode/config/config_value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/ssh/identity.h"

int config_peer_begin(struct config *c, const char *name, unsigned line, char *why, size_t size)
{
    if (!identity_peer_name_valid(name)) {
        snprintf(why, size, "[peer %.60s]: a node's name is 1 to %d of A-Z a-z 0-9 . _ -", name,
                 CONFIG_NAME_MAX);
        return -EINVAL;
    }
    if (config_peer_by_name(c, name) != NULL) {
        snprintf(why, size, "a second [peer %s]; there may be one", name);
        return -EINVAL;
    }
    if (c->n_peers == CONFIG_PEERS_MAX) {
        snprintf(why, size, "more than %d peers", CONFIG_PEERS_MAX);
        return -EINVAL;
    }
    struct config_peer *peers = realloc(c->peers, (c->n_peers + 1) * sizeof *peers);
    if (peers == NULL)
        return -ENOMEM;
    c->peers = peers;
    peers[c->n_peers] = (struct config_peer){.line = line, .name = strdup(name)};
    if (peers[c->n_peers].name == NULL)
        return -ENOMEM;
    c->n_peers++;
    return 0;
}

static int twice(const char *name, char *why, size_t size)
{
    snprintf(why, size, "%s is given twice", name);
    return -EINVAL;
}

int config_peer_set(struct config_peer *p, const char *name, const char *value, char *why, size_t size)
{
    char key[IDENTITY_PUBLIC_MAX], host[256];
    uint64_t id;
    if (strcmp(name, "id") == 0) {
        if (p->id != 0)
            return twice(name, why, size);
        if (!config_read_number(value, 1, 65535, &id)) {
            snprintf(why, size, "id = %.60s is not allowed; allowed: a number from 1 to 65535", value);
            return -EINVAL;
        }
        p->id = (uint16_t)id;
        return 0;
    }
    if (strcmp(name, "address") == 0) {
        if (p->host != NULL)
            return twice(name, why, size);
        if (config_split_address(value, host, sizeof host, &p->port) != 0) {
            snprintf(why, size, "address = %.60s is not allowed; allowed: HOST:PORT or [IPV6]:PORT", value);
            return -EINVAL;
        }
        return config_set_string(&p->host, host);
    }
    if (strcmp(name, "user") == 0) {
        if (p->user != NULL)
            return twice(name, why, size);
        if (value[0] == '\0' || strpbrk(value, " \t\"'\\") != NULL) {
            snprintf(why, size, "user = %.60s is not allowed; allowed: an account's name", value);
            return -EINVAL;
        }
        return config_set_string(&p->user, value);
    }
    if (strcmp(name, "host_key") == 0 || strcmp(name, "key") == 0) {
        char **field = name[0] == 'h' ? &p->host_key : &p->key;
        if (*field != NULL)
            return twice(name, why, size);
        if (!identity_public_valid(value, key)) {
            snprintf(why, size, "%s is no ed25519 public key; allowed: ssh-ed25519 AAAA…, one line", name);
            return -EINVAL;
        }
        return config_set_string(field, key);
    }
    snprintf(why, size, "unknown name %.60s in [peer %s]; allowed: id, address, user, host_key, key", name,
             p->name);
    return -EINVAL;
}

static int refuse_peer(const struct config *c, const struct config_peer *p, const char *what, char *why,
                       size_t size)
{
    snprintf(why, size, "%s:%u: [peer %s] %s", c->file != NULL ? c->file : "-", p->line, p->name, what);
    return -EINVAL;
}

static int compare_peers(const void *a, const void *b)
{
    const struct config_peer *pa = a, *pb = b;
    return (pa->id > pb->id) - (pa->id < pb->id);
}

void config_peer_deinit(struct config_peer *p)
{
    free(p->name);
    free(p->host);
    free(p->user);
    free(p->host_key);
    free(p->key);
}

int config_peers_finish(struct config *c, char *why, size_t size)
{
    char what[120];
    for (size_t i = 0; i < c->n_peers; i++) {
        struct config_peer *p = &c->peers[i];
        const char *missing = p->id == 0            ? "id"
                              : p->host == NULL     ? "address"
                              : p->host_key == NULL ? "host_key"
                              : p->key == NULL      ? "key"
                                                    : NULL;
        if (missing != NULL) {
            snprintf(what, sizeof what,
                     "has no %s; kvnode config --peer on that node prints the whole section", missing);
            return refuse_peer(c, p, what, why, size);
        }
        if (p->user == NULL && config_set_string(&p->user, c->ssh_user) != 0)
            return -ENOMEM;
        bool same_name = strcmp(p->name, c->name) == 0;
        if (same_name != (p->id == c->id))
            return refuse_peer(c, p,
                               same_name ? "has this node's name but another id"
                                         : "has this node's id but another name",
                               why, size);
        for (size_t j = 0; j < i; j++) {
            const struct config_peer *q = &c->peers[j];
            const char *same = p->id == q->id                                        ? "id"
                               : strcmp(p->key, q->key) == 0                         ? "key"
                               : strcmp(p->host_key, q->host_key) == 0               ? "host_key"
                               : p->port == q->port && strcmp(p->host, q->host) == 0 ? "address"
                                                                                     : NULL;
            if (same == NULL)
                continue;
            snprintf(what, sizeof what, "has the same %s as [peer %s]", same, q->name);
            return refuse_peer(c, p, what, why, size);
        }
    }
    for (size_t i = 0; i < c->n_peers; i++)
        if (c->peers[i].id == c->id) {
            config_peer_deinit(&c->peers[i]);
            memmove(&c->peers[i], &c->peers[i + 1], (c->n_peers - i - 1) * sizeof *c->peers);
            c->n_peers--;
            break;
        }
    if (c->n_peers > 1)
        qsort(c->peers, c->n_peers, sizeof *c->peers, compare_peers);
    return 0;
}
