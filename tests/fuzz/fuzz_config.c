/* Fuzzes the configuration file's parser: whatever the text, it is either taken as a
 * whole or refused with a message, and what was taken is within bounds. */
#include <stdlib.h>
#include <string.h>

#include "kvnode/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_request request = {0};
    struct config *config = NULL;
    char message[1024] = "";
    size_t i;

    if (config_parse((const char *)data, size, "fuzz.conf", &request, &config, message, sizeof message) !=
        0) {
        if (config != NULL || message[0] == '\0' || memchr(message, '\0', sizeof message) == NULL)
            abort();
        return 0;
    }
    if (config->id == 0 || config->cluster_id == 0 || config->name[0] == '\0' || config->socket[0] != '/')
        abort();
    for (i = 0; i < config->n_peers; i++)
        if (config->peers[i].id == config->id || config->peers[i].port == 0)
            abort();
    config_free(config);
    return 0;
}
