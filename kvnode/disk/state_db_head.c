/* A file's format from its first bytes, as SQLite lays them down (fileformat2.html, 1.3). */
#include <endian.h>
#include <string.h>

#include "kvnode/disk/state_db.h"

#define USER_VERSION_AT 60
#define APPLICATION_ID_AT 68

static uint32_t word(const uint8_t *head, size_t at)
{
    uint32_t w;

    memcpy(&w, head + at, sizeof w);
    return be32toh(w);
}

bool state_db_is_newer(const void *head, size_t len, uint32_t *format_out)
{
    if (len < APPLICATION_ID_AT + 4 || word(head, APPLICATION_ID_AT) != STATE_DB_APPLICATION_ID)
        return false;
    *format_out = word(head, USER_VERSION_AT);
    return *format_out > STATE_DB_USER_VERSION;
}
