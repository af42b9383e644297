#include "kvnode/admin/cluster.h"
#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"
#include "kvnode/admin/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "sync/base/error.h"

#define PAGE 500

static void print_row(const struct admin *a, const struct version_row *row)
{
    char version[40], when[32], author[200], size[32];
    if (a->opt[OPT_JSON] != NULL) {
        json_t *object = json_version_row(row);
        json_set_bytes(object, "key", a->args[0], strlen(a->args[0]));
        json_line(object);
        return;
    }
    snprintf(version, sizeof version, "%" PRIu64 "%s", row->version, row->deleted ? ".deleted" : "");
    format_time(row->wall_ns, when, sizeof when);
    format_row_author(row, author, sizeof author);
    format_size(row->size, size, sizeof size);
    if (row->type == INODE_FIFO || row->type == INODE_SOCKET)
        snprintf(size, sizeof size, "%s", format_type(row->type));
    printf("%-8s %-20s %-15s %s%s%s\n", version, when, author, row->deleted ? "-" : size,
           row->current ? "   current" : "", row->attributes_only ? "   attributes" : "");
}

/* The newest row that is no mere change of attributes tells what is current. */
static bool print_page(const struct admin *a, const struct page_answer *page, uint64_t *left,
                       uint64_t *printed, bool *content_seen, uint64_t *before_out)
{
    struct cursor rows = rows_cursor(&page->rows);
    struct cursor labels = cursor_of(page->labels.data, page->labels.len);
    for (uint32_t i = 0; i<page->rows.count && * left> 0; i++) {
        struct version_row row;
        version_row_decode(&rows, &row);
        labels_next(&labels, &row);
        *before_out = row.revision;
        row.current = !row.attributes_only && !row.deleted && !*content_seen;
        *content_seen = *content_seen || !row.attributes_only;
        if (row.attributes_only && a->opt[OPT_VERBOSE] == NULL)
            continue;
        if ((*printed)++ == 0 && a->opt[OPT_JSON] == NULL)
            printf("%-8s %-20s %-15s %s\n", "VERSION", "WHEN", "BY", "SIZE");
        print_row(a, &row);
        (*left)--;
    }
    return page->more && page->rows.count > 0 && *left > 0;
}

int verb_history(struct admin *a)
{
    const char *key = a->args[0];
    const char *name;
    size_t name_len;
    uint64_t left = UINT64_MAX, directory, before = 0, printed = 0;
    if (a->opt[OPT_LAST] != NULL && !admin_parse_number(a->opt[OPT_LAST], 1, UINT64_MAX, &left))
        return admin_usage(a, "--last %s: use a number from 1", a->opt[OPT_LAST]);
    bool content_seen = false;
    struct request_link l;
    int exit = admin_key(a, key, false, false);
    if (exit != EXIT_OK)
        return exit;
    exit = request_open(a, &l);
    if (exit != EXIT_OK)
        return exit;
    int rc = request_parent(&l, key, &directory, &name, &name_len);
    for (bool more = true; rc == 0 && more;) {
        const union request_body body = {.history = {.directory = directory,
                                                     .name = bytes_of(name, name_len),
                                                     .before = before,
                                                     .n = request_rows(&l, PAGE)}};
        union answer_body answer;
        rc = request_ask(&l, MESSAGE_HISTORY, &body, &answer);
        if (rc != 0)
            break;
        more = print_page(a, &answer.history, &left, &printed, &content_seen, &before);
        request_restart_clock(&l);
    }
    if (rc == 0 && printed == 0)
        rc = KV_E_NOENT;
    if (rc != 0)
        exit = cluster_fail(&l, key, rc, false);
    request_close(&l);
    return exit;
}
