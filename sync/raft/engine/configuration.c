#include "sync/raft/engine/configuration.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"

#define BLOB_VERSION 1
#define BLOB_HEADER (1 + sizeof(uint64_t))

struct server *configuration_find(const struct configuration *c, uint64_t id)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->servers[i].id == id)
            return (struct server *)&c->servers[i];
    return NULL;
}

unsigned configuration_voters(const struct configuration *c)
{
    unsigned voters = 0;

    for (unsigned i = 0; i < c->n; i++)
        if (c->servers[i].role == SERVER_VOTER)
            voters++;
    return voters;
}

int configuration_add(struct configuration *c, uint64_t id, const char *address, enum server_role role)
{
    size_t len = strnlen(address, CONFIGURATION_MAX_ADDRESS + 1);

    if (id == 0 || len == 0 || len > CONFIGURATION_MAX_ADDRESS)
        return KV_E_INVAL;
    if (role != SERVER_STANDBY && role != SERVER_VOTER)
        return KV_E_INVAL;
    for (unsigned i = 0; i < c->n; i++)
        if (c->servers[i].id == id || strcmp(c->servers[i].address, address) == 0)
            return KV_E_EXIST;
    if (c->n == CONFIGURATION_MAX_SERVERS)
        return KV_E_BUSY;
    c->servers[c->n].id = id;
    c->servers[c->n].role = role;
    memcpy(c->servers[c->n].address, address, len + 1);
    c->n++;
    return 0;
}

int configuration_remove(struct configuration *c, uint64_t id)
{
    struct server *found = configuration_find(c, id);
    size_t at;

    if (found == NULL)
        return KV_E_NOENT;
    at = (size_t)(found - c->servers);
    memmove(found, found + 1, (c->n - at - 1) * sizeof *found);
    c->n--;
    return 0;
}

struct entry *configuration_encode(const struct configuration *c)
{
    size_t len = BLOB_HEADER;
    uint64_t le;
    struct entry *e;
    uint8_t *p;

    if (c->n == 0)
        return NULL;
    for (unsigned i = 0; i < c->n; i++)
        len += sizeof le + strlen(c->servers[i].address) + 1 + 1;
    len = (len + 7) & ~(size_t)7;
    e = entry_new_reserve(ENTRY_CHANGE, len);
    if (e == NULL)
        return NULL;
    memset(e->data, 0, len);
    p = e->data;
    *p++ = BLOB_VERSION;
    le = htole64(c->n);
    memcpy(p, &le, sizeof le);
    p += sizeof le;
    for (unsigned i = 0; i < c->n; i++) {
        size_t address_len = strlen(c->servers[i].address) + 1;

        le = htole64(c->servers[i].id);
        memcpy(p, &le, sizeof le);
        p += sizeof le;
        memcpy(p, c->servers[i].address, address_len);
        p += address_len;
        *p++ = (uint8_t)c->servers[i].role;
    }
    return e;
}

int configuration_decode(const void *data, size_t len, struct configuration *out)
{
    const uint8_t *p = data;
    const uint8_t *end = p + len;
    uint64_t n, id;

    out->n = 0;
    if (len < BLOB_HEADER || len % 8 != 0 || *p++ != BLOB_VERSION)
        return KV_E_PROTOCOL;
    memcpy(&n, p, sizeof n);
    n = le64toh(n);
    p += sizeof n;
    if (n == 0 || n > CONFIGURATION_MAX_SERVERS)
        return KV_E_PROTOCOL;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *nul;

        if ((size_t)(end - p) < sizeof id)
            return KV_E_PROTOCOL;
        memcpy(&id, p, sizeof id);
        p += sizeof id;
        nul = memchr(p, 0, (size_t)(end - p));
        if (nul == NULL || end - nul < 2)
            return KV_E_PROTOCOL;
        if (configuration_add(out, le64toh(id), (const char *)p, (enum server_role)nul[1]) != 0)
            return KV_E_PROTOCOL;
        p = nul + 2;
    }
    if (end - p >= 8)
        return KV_E_PROTOCOL;
    for (; p < end; p++)
        if (*p != 0)
            return KV_E_PROTOCOL;
    return 0;
}
