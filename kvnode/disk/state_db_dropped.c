/* Up to where the operation log may have gaps: one row, beside the state and not part of its
 * digest. Of what was dropped before there was that table (format 6) nothing is known. */
#include "kvnode/disk/state_db_internal.h"
#include "sync/base/digest.h"

uint64_t dropped_checksum(uint64_t revision)
{
    return digest64(9, &revision, sizeof revision);
}

bool dropped_row_read(sqlite3_stmt *st, uint64_t *revision_out)
{
    *revision_out = (uint64_t)sqlite3_column_int64(st, 0);
    return (uint64_t)sqlite3_column_int64(st, 1) == dropped_checksum(*revision_out);
}
