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

static void lookup(struct call *call, struct virtual_node *parent);
static void open_directory(struct call *call, struct virtual_node *v);
static void open_file(struct call *call, struct virtual_node *v);
static void read_file(struct call *call, struct virtual_node *v);

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

void control_files_lookup_root(struct call *call)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v = virtual_get(virtuals, "control");

    if (v == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    v->ops = &root_ops;
    v->attr = (struct attr){
        .type = INODE_DIRECTORY, .mode = 0555, .nlink = 2, .mtime_ns = (int64_t)clock_wall_ns()};
    v->attr.uid = geteuid();
    v->attr.gid = getegid();
    v->attr.ctime_ns = v->attr.atime_ns = v->attr.btime_ns = v->attr.mtime_ns;
    virtual_reply_entry(call, v, false);
}

static void lookup(struct call *call, struct virtual_node *parent)
{
    struct virtual_table *virtuals = call->hub->virtuals;
    struct virtual_node *v;
    char key[32];
    size_t i = 0;

    while (i < N_FILES && strcmp(files[i].name, call->name) != 0)
        i++;
    if (i == N_FILES) {
        call_error(call, ENOENT);
        return;
    }
    snprintf(key, sizeof key, "control/%zu", i);
    v = virtual_get(virtuals, key);
    if (v == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    v->ops = &file_ops;
    v->number = i;
    v->attr = parent->attr;
    v->attr.type = INODE_FILE;
    v->attr.mode = 0444;
    v->attr.nlink = 1;
    virtual_reply_entry(call, v, false);
}

static void open_directory(struct call *call, struct virtual_node *v)
{
    struct buffer names = BUFFER_INIT;
    size_t i;

    for (i = 0; i < N_FILES; i++) {
        buffer_put_u8(&names, INODE_FILE);
        buffer_put_bytes(&names, files[i].name, strlen(files[i].name) + 1);
    }
    open_directory_reply_list(call, &names, false);
    buffer_deinit(&names);
}

/* Hands the text to the kernel's handle. */
static void reply_text(struct call *call, const void *text, size_t len)
{
    struct buffer *b = calloc(1, sizeof *b);

    if (b != NULL) {
        buffer_put_bytes(b, text, len);
        if (len > 0 && ((const char *)text)[len - 1] != '\n')
            buffer_put_u8(b, '\n');
    }
    if (b == NULL || b->failed) {
        free(b);
        call_error(call, ENOMEM);
        return;
    }
    call->open.fi.fh = (uint64_t)(uintptr_t)b;
    call->open.fi.direct_io = 1;
    if (fuse_reply_open(call->fuse, &call->open.fi) != 0)
        control_files_release(&call->open.fi);
    call_end(call);
}

void control_files_release(const struct fuse_file_info *fi)
{
    struct buffer *b = (struct buffer *)(uintptr_t)fi->fh;

    if (b == NULL)
        return;
    buffer_deinit(b);
    free(b);
}

static void on_text(struct call *call, int code, const union answer_body *answer)
{
    /* All of them have the same body. */
    if (code != 0)
        call_fail(call, code);
    else
        reply_text(call, answer->admin.json.data, answer->admin.json.len);
}

static void reply_mount(struct call *call)
{
    const struct hub *hub = call->hub;
    const struct cache *cache = hub->cache;
    const struct uplink *u = &hub->uplink;
    const struct call *q;
    unsigned calls = 0;
    char text[512];
    int n;

    TAILQ_FOREACH (q, &hub->calls.all, all)
        calls++;
    n = snprintf(text, sizeof text,
                 "{\"node\": \"%s\", \"connected\": %s, \"session\": %" PRIu64 ", \"revision\": \"0-%" PRIu64
                 "\", \"requests\": %u, \"staged_bytes\": %zu, \"inodes\": %u, \"names_cached\": %s}\n",
                 u->node.name, u->client != NULL ? "true" : "false", u->session, u->complete, calls,
                 hub->files->memory.used, HASH_CNT(hh, cache->inodes.by_ino),
                 cache->entry_timeout > 0 ? "true" : "false");
    reply_text(call, text, (size_t)n);
}

static void open_file(struct call *call, struct virtual_node *v)
{
    const char *command = files[v->number].admin;

    if (files[v->number].type == 0)
        reply_mount(call);
    else if (command == NULL)
        uplink_send(call, files[v->number].type, NULL, on_text);
    else
        uplink_send(call, files[v->number].type, &(union request_body){.admin.json = bytes_text(command)},
                    on_text);
}

static void read_file(struct call *call, struct virtual_node *v)
{
    const struct buffer *b = (const struct buffer *)(uintptr_t)call->read.fh;
    size_t len = b->len > call->read.offset ? b->len - (size_t)call->read.offset : 0;

    reply_data(call, b->data + (len > 0 ? call->read.offset : 0),
               len < call->read.size ? len : call->read.size);
}
