/* Who is who, once the file is read. */
#include <string.h>

#include "kvnode/config/config.h"

#define CONFIG_VOTERS_MAX 7

const struct config_peer *config_peer_by_name(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_peers; i++)
        if (strcmp(config->peers[i].name, name) == 0)
            return &config->peers[i];
    return NULL;
}

bool config_number_fits(size_t n)
{
    return n % 2 == 1 && n <= CONFIG_VOTERS_MAX;
}

const struct config_peer *config_peer_by_id(const struct config *config, uint16_t id)
{
    for (size_t i = 0; i < config->n_peers; i++)
        if (config->peers[i].id == id)
            return &config->peers[i];
    return NULL;
}

const char *config_member_name(const struct config *config, uint64_t id)
{
    const struct config_peer *peer;

    if (id == config->id)
        return config->name;
    peer = id <= UINT16_MAX ? config_peer_by_id(config, (uint16_t)id) : NULL;
    return peer != NULL ? peer->name : "-";
}
