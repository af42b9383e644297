#include "kvnode/admin/log_row.h"

#include <inttypes.h>

const char *log_row_op(const struct log_row *r)
{
    /* A directory that `set` made on the way is no set. */
    bool made = r->row.type == INODE_DIRECTORY && r->row.op == COMMAND_SET;
    return made ? command_op_name(COMMAND_MKDIR) : version_row_op(&r->row);
}

void log_row_print(const struct admin *a, const struct log_row *r)
{
    char when[32], author[200], size[32], version[40] = "-";
    format_time((int64_t)r->row.wall_ns, when, sizeof when);
    format_row_author(&r->row, author, sizeof author);
    format_size(r->row.size, size, sizeof size);
    if (r->row.version != 0)
        snprintf(version, sizeof version, "%" PRIu64 "%s", r->row.version, r->row.deleted ? ".deleted" : "");
    bool sized = !r->row.deleted && (r->row.type == INODE_FILE || r->row.type == INODE_SYMLINK);
    printf("%-19s  %-9s %-10s %10s  %-15s  ", when, log_row_op(r), version, sized ? size : "-", author);
    format_name(stdout, r->key, r->key_len, a->quote);
    if (r->from_len > 0) {
        fputs("  from ", stdout);
        format_name(stdout, r->from, r->from_len, a->quote);
    }
    putchar('\n');
}

json_t *log_row_json(const struct log_row *r)
{
    json_t *object = json_version_row(&r->row);
    json_set_bytes(object, "key", r->key, r->key_len);
    if (r->from_len > 0)
        json_set_bytes(object, "from", r->from, r->from_len);
    return object;
}
