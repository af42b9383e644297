/* /.kvfs: what the node and this mount say of themselves. Made when a file is
 * opened; never cached by the kernel. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvfs/reply/open_directory.h"
#include "kvfs/reply/reply.h"
#include "kvfs/virtual/virtual.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

static void lookup(struct request *r, struct virtual_node *parent);
static void open_directory(struct request *r, struct virtual_node *v);
static void open_file(struct request *r, struct virtual_node *v);
static void read_file(struct request *r, struct virtual_node *v);

static const struct virtual_ops root_ops = {.lookup = lookup, .opendir = open_directory};
static const struct virtual_ops file_ops = {.open = open_file, .read = read_file};

static const struct {
    const char *name;
    enum message_type type; /* 0: answered here */
    const char *admin;
} files[] = {
    {"status", MESSAGE_STATUS, NULL},
    {"settings", MESSAGE_SETTINGS, NULL},
    {"members", MESSAGE_ADMIN, "{\"command\":\"members\"}"},
    {"mount", 0, NULL},
};

#define N_FILES (sizeof files / sizeof files[0])

void control_lookup_root(struct request *r)
{
    struct virtual_table *virtuals = r->core->virtuals;
    struct virtual_node *v = virtual_get(virtuals, "control");

    if (v == NULL) {
        request_error(r, ENOMEM);
        return;
    }
    v->ops = &root_ops;
    v->attr = (struct attr){
        .type = INODE_DIRECTORY, .mode = 0555, .nlink = 2, .mtime_ns = (int64_t)clock_wall_ns()};
    v->attr.uid = geteuid();
    v->attr.gid = getegid();
    v->attr.ctime_ns = v->attr.atime_ns = v->attr.btime_ns = v->attr.mtime_ns;
    virtual_reply_entry(r, v, false);
}

static void lookup(struct request *r, struct virtual_node *parent)
{
    struct virtual_table *virtuals = r->core->virtuals;
    struct virtual_node *v;
    char key[32];
    size_t i = 0;

    while (i < N_FILES && strcmp(files[i].name, r->name) != 0)
        i++;
    if (i == N_FILES) {
        request_error(r, ENOENT);
        return;
    }
    snprintf(key, sizeof key, "control/%zu", i);
    v = virtual_get(virtuals, key);
    if (v == NULL) {
        request_error(r, ENOMEM);
        return;
    }
    v->ops = &file_ops;
    v->number = i;
    v->attr = parent->attr;
    v->attr.type = INODE_FILE;
    v->attr.mode = 0444;
    v->attr.nlink = 1;
    virtual_reply_entry(r, v, false);
}

static void open_directory(struct request *r, struct virtual_node *v)
{
    struct buffer names = BUFFER_INIT;
    size_t i;

    for (i = 0; i < N_FILES; i++) {
        buffer_put_u8(&names, INODE_FILE);
        buffer_put_bytes(&names, files[i].name, strlen(files[i].name) + 1);
    }
    open_directory_reply_list(r, &names, false);
    buffer_deinit(&names);
}

/* Hands the text to the kernel's handle. */
static void reply_text(struct request *r, const void *text, size_t len)
{
    struct buffer *b = calloc(1, sizeof *b);

    if (b != NULL) {
        buffer_put_bytes(b, text, len);
        if (len > 0 && ((const char *)text)[len - 1] != '\n')
            buffer_put_u8(b, '\n');
    }
    if (b == NULL || b->failed) {
        free(b);
        request_error(r, ENOMEM);
        return;
    }
    r->open.fi.fh = (uint64_t)(uintptr_t)b;
    r->open.fi.direct_io = 1;
    if (fuse_reply_open(r->fuse, &r->open.fi) != 0)
        control_release(&r->open.fi);
    request_end(r);
}

void control_release(const struct fuse_file_info *fi)
{
    struct buffer *b = (struct buffer *)(uintptr_t)fi->fh;

    if (b == NULL)
        return;
    buffer_deinit(b);
    free(b);
}

static void on_text(struct request *r, int code, struct cursor *body)
{
    const uint8_t *text;
    size_t len = 0;

    if (code != 0) {
        request_fail(r, code);
        return;
    }
    text = cursor_string(body, FRAME_PAYLOAD_MAX, &len);
    if (text == NULL)
        request_error(r, EIO);
    else
        reply_text(r, text, len);
}

static void reply_mount(struct request *r)
{
    const struct core *core = r->core;
    const struct cache *cache = core->cache;
    const struct link *l = &core->link;
    const struct request *q;
    unsigned requests = 0;
    char text[512];
    int n;

    TAILQ_FOREACH (q, &core->requests.all, all)
        requests++;
    n = snprintf(text, sizeof text,
                 "{\"node\": \"%s\", \"connected\": %s, \"session\": %" PRIu64 ", \"revision\": \"0-%" PRIu64
                 "\", \"requests\": %u, \"staged_bytes\": %zu, \"inodes\": %u, \"names_cached\": %s}\n",
                 l->node.name, l->client != NULL ? "true" : "false", l->session, l->complete, requests,
                 core->files->memory.used, HASH_CNT(hh, cache->inodes.by_ino),
                 cache->entry_timeout > 0 ? "true" : "false");
    reply_text(r, text, (size_t)n);
}

static void open_file(struct request *r, struct virtual_node *v)
{
    if (files[v->number].type == 0) {
        reply_mount(r);
        return;
    }
    if (files[v->number].admin != NULL)
        buffer_put_text(&r->payload, files[v->number].admin);
    link_send(r, files[v->number].type, on_text);
}

static void read_file(struct request *r, struct virtual_node *v)
{
    const struct buffer *b = (const struct buffer *)(uintptr_t)r->read.fh;
    size_t len = b->len > r->read.offset ? b->len - (size_t)r->read.offset : 0;

    reply_data(r, b->data + (len > 0 ? r->read.offset : 0), len < r->read.size ? len : r->read.size);
}
