#include "kvnode/admin/format.h"
#include "kvnode/admin/request.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"

#define CLIENT_NAME "kvnode"
#define RETRY_MS 50
#define TELL_AFTER_MS 2000
/* With less time left a refusal is the answer: one more try that is not answered in
 * time would leave open whether it was written. */
#define LAST_TRY_MS 300
/* What another node of this machine is given to say which cluster it belongs to. */
#define LOOK_MS 200

unsigned request_left(const struct request_link *l)
{
    uint64_t now = clock_boot_ms();
    return now < l->deadline_ms ? (unsigned)(l->deadline_ms - now) : 0;
}

void request_restart_clock(struct request_link *l)
{
    l->deadline_ms = clock_boot_ms() + l->admin->timeout_ms;
}

void request_pause(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* So long, or what is left of the deadline. */
static unsigned patience(const struct request_link *l, unsigned ms)
{
    unsigned left = request_left(l);
    return ms < left ? ms : left;
}

/* Who may use a socket, or the folder of sockets, that this account may not. */
static void tell_denied(const char *path, char *out, size_t size)
{
    char me[64], owner[64], group[64];
    struct stat st;
    format_user(geteuid(), me, sizeof me);
    if (stat(path, &st) != 0) {
        snprintf(out, size, "%s may not reach %s", me, path);
        return;
    }
    format_user(st.st_uid, owner, sizeof owner);
    format_group(st.st_gid, group, sizeof group);
    snprintf(out, size, "%s may not use %s, which is for %s and the group %s", me, path, owner, group);
}

/* Tries one socket. */
static int try_socket(struct request_link *l, const char *socket, unsigned timeout_ms)
{
    int rc = client_open(socket, CLIENT_ADMIN, CLIENT_NAME, 0, timeout_ms, &l->client, &l->node);
    if (rc == 0)
        snprintf(l->socket, sizeof l->socket, "%s", socket);
    if (rc == -EACCES)
        tell_denied(socket, l->denied, sizeof l->denied);
    return rc;
}

/* Does the node serve? One that does not answer this in time does not. */
static bool is_serving(struct client *client, unsigned timeout_ms)
{
    union answer_body answer;
    struct cursor body;
    client_ask(client, MESSAGE_STATUS, UINT64_MAX, NULL);
    if (client_call(client, UINT64_MAX, timeout_ms, &body, NULL, 0) != 0 ||
        !body_decode_answer(MESSAGE_STATUS, &body, &answer))
        return false;
    json_t *status = json_loadb((const char *)answer.status.json.data, answer.status.json.len, 0, NULL);
    bool serving = status != NULL && json_string_value(json_object_get(status, "no_service")) == NULL;
    json_decref(status);
    return serving;
}

/* What try_all() has found so far. */
struct search {
    uint64_t cluster;         /* that of the first node, or of the one that there was before; 0: none yet */
    bool fixed;               /* there was one before: others are taken only if nothing else answers */
    bool several;             /* clusters */
    bool serving;             /* the one that is taken */
    bool alone;               /* there is one socket only: whether it serves makes no difference */
    char choices[DETAIL_MAX]; /* "-n n1 (cluster …), -n n2 (cluster …)" */
};

/* The node behind a socket has answered: takes it, or closes it. */
static void consider(struct request_link *l, struct search *s, const char *socket, struct client *client,
                     const struct client_node *node)
{
    const char *base = strrchr(socket, '/') + 1;
    size_t used = strlen(s->choices);
    if (s->cluster == 0)
        s->cluster = node->cluster_id;
    bool same = node->cluster_id == s->cluster;
    s->several |= !same && !s->fixed;
    snprintf(s->choices + used, sizeof s->choices - used, "%s-n %.*s (cluster %016" PRIx64 ")",
             used > 0 ? ", " : "", (int)(strlen(base) - 5), base, node->cluster_id);
    bool wanted = l->client == NULL || (same && l->node.cluster_id != s->cluster);
    bool instead = !wanted && !s->serving && node->cluster_id == l->node.cluster_id;
    bool serving = (wanted || instead) && !s->alone && is_serving(client, patience(l, 2000));
    if (!wanted && !(instead && serving)) {
        client_close(client);
        return;
    }
    client_close(l->client);
    l->client = client;
    l->node = *node;
    s->serving = serving;
    snprintf(l->socket, sizeof l->socket, "%s", socket);
}

/* Tries all sockets of the directory in order, and takes the first node that serves, or the first that
 * answers. -ENOTUNIQ: they belong to several clusters, failures_out says which to which; else it is
 * "n1: …, n2: …". */
static int try_all(struct request_link *l, char *failures_out, size_t size)
{
    struct search s = {.cluster = l->node.cluster_id, .fixed = l->node.cluster_id != 0};
    char dir[108], pattern[PATH_MAX];
    size_t used = 0;
    glob_t found;
    int rc = client_socket_dir(dir, sizeof dir);
    if (rc != 0) {
        snprintf(failures_out, size, "the socket directory's path is too long");
        return rc;
    }
    if (access(dir, R_OK | X_OK) != 0 && errno == EACCES) {
        tell_denied(dir, l->denied, sizeof l->denied);
        return -EACCES;
    }
    snprintf(pattern, sizeof pattern, "%s/*.sock", dir);
    if (glob(pattern, 0, NULL, &found) != 0) {
        snprintf(failures_out, size, "there is no socket in %s", dir);
        return -ENOENT;
    }
    s.alone = found.gl_pathc == 1;
    rc = -ENOENT;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *socket = found.gl_pathv[i], *base = strrchr(socket, '/') + 1;
        /* One is found: who stands still is not waited for. */
        unsigned patient = l->client != NULL ? LOOK_MS : s.alone ? UINT_MAX : 2000;
        struct client *client;
        struct client_node node;
        int one = client_open(socket, CLIENT_ADMIN, CLIENT_NAME, 0, patience(l, patient), &client, &node);
        if (one == 0) {
            consider(l, &s, socket, client, &node);
            continue;
        }
        if (one == -EACCES)
            tell_denied(socket, l->denied, sizeof l->denied);
        rc = one;
        admin_detail(l->admin, "%s: %s", socket, one > 0 ? error_text(one) : strerror(-one));
        if (used < size) {
            int n = snprintf(failures_out + used, size - used, "%s%.*s: %s", used > 0 ? ", " : "",
                             (int)(strlen(base) - 5), base, one > 0 ? error_text(one) : strerror(-one));
            used += n > 0 ? (size_t)n : 0;
        }
    }
    globfree(&found);
    if (s.several) {
        client_close(l->client);
        l->client = NULL;
        snprintf(failures_out, size, "%s", s.choices);
        return -ENOTUNIQ;
    }
    return l->client != NULL ? 0 : rc;
}

static const char *named_node(const struct admin *a)
{
    const char *name = a->opt[OPT_NODE] != NULL ? a->opt[OPT_NODE] : getenv("KVNODE_NODE");
    return name != NULL && name[0] != '\0' ? name : NULL;
}

/* Tries the nodes of a list, "n1,n2", in order. */
static int try_named(struct request_link *l, const char *list)
{
    size_t used = 0;
    int rc = -ENOENT;
    l->detail[0] = '\0';
    while (*list != '\0') {
        char node[108], path[108];
        size_t len = strcspn(list, ",");
        bool several = list[len] == ',' || used > 0;
        unsigned left = request_left(l);
        int n = snprintf(node, sizeof node, "%.*s", (int)len, list);
        list += len + (list[len] == ',');
        snprintf(path, sizeof path, "%s", node);
        rc = n < 0 || (size_t)n >= sizeof node ? -ENAMETOOLONG : client_socket_path(node, path, sizeof path);
        if (rc == 0)
            rc = try_socket(l, path, several && left > 2000 ? 2000 : left);
        if (rc == 0)
            return 0;
        if (used < sizeof l->detail) {
            n = snprintf(l->detail + used, sizeof l->detail - used, "%s%s: %s", used > 0 ? ", " : "", path,
                         rc > 0 ? error_text(rc) : strerror(-rc));
            used += n > 0 ? (size_t)n : 0;
        }
    }
    return rc;
}

static int reconnect(struct request_link *l)
{
    const char *node = named_node(l->admin);
    client_close(l->client);
    l->client = NULL;
    l->way_back[0] = '\0';
    return node == NULL ? try_all(l, l->detail, sizeof l->detail) : try_named(l, node);
}

/* For a request that is sent again: another cluster has other keys and sessions. */
static int reconnect_same(struct request_link *l)
{
    uint64_t cluster = l->node.cluster_id;
    int rc = reconnect(l);
    if (rc != 0 || l->node.cluster_id == cluster)
        return rc;
    client_close(l->client);
    l->client = NULL;
    l->node.cluster_id = cluster;
    snprintf(l->detail, sizeof l->detail, "the node that answers now belongs to another cluster");
    return -ECONNREFUSED;
}

int request_reconnect(struct request_link *l)
{
    request_restart_clock(l);
    return reconnect(l);
}

/* What the writes bear: --as, or $KVNODE_AUTHOR. Who only reads has none. */
static int take_label(struct request_link *l)
{
    const struct admin *a = l->admin;
    const char *label = a->opt[OPT_AS] != NULL ? a->opt[OPT_AS] : getenv("KVNODE_AUTHOR");
    if (label == NULL || label[0] == '\0' || (a->verb->options >> OPT_AS & 1) == 0)
        return EXIT_OK;
    if (!command_label_check(label, strlen(label)))
        return admin_usage(
            a, "%s: use a name of up to %d bytes of UTF-8, without spaces, @ and control characters",
            a->opt[OPT_AS] != NULL ? "--as" : "$KVNODE_AUTHOR", COMMAND_LABEL_MAX);
    l->label = label;
    return EXIT_OK;
}

/* A cluster that does not know labels does without. */
static bool has_label(struct request_link *l)
{
    if (l->label == NULL || l->node.level >= COMMAND_LABEL_LEVEL)
        return l->label != NULL;
    if (!l->label_told)
        admin_say(
            l->admin,
            "kvnode: the author's name is left out: the cluster is at feature level %u, names belong to "
            "level %d",
            l->node.level, COMMAND_LABEL_LEVEL);
    l->label_told = true;
    return false;
}

int request_open(const struct admin *a, struct request_link *l_out)
{
    *l_out = (struct request_link){.admin = a};
    request_restart_clock(l_out);
    int exit = take_label(l_out);
    if (exit != EXIT_OK)
        return exit;
    int rc = reconnect(l_out);
    if (rc != 0) {
        const char *node = named_node(a), *subject = a->n_args > 0 ? a->args[0] : NULL;
        exit = rc > 0 ? admin_exit_of(rc, false) : EXIT_UNAVAILABLE;
        if (l_out->denied[0] != '\0' && rc != -ENOTUNIQ)
            return admin_fail(
                a, EXIT_REFUSED, subject,
                "%s; nothing was done. [node] socket_group = GROUP in the node's configuration lets a "
                "group's members use it",
                l_out->denied);
        if (rc == -ENOTUNIQ)
            return admin_fail(a, EXIT_USAGE, subject,
                              "the nodes here belong to several clusters; nothing was done. Say which one is "
                              "to be asked: %s",
                              l_out->detail);
        if (node != NULL)
            return admin_fail(a, exit, subject,
                              "node %s does not answer (%s); nothing was done. Try: kvnode doctor", node,
                              l_out->detail);
        return admin_fail(a, exit, subject, "no node answers (%s); nothing was done. Try: kvnode doctor",
                          l_out->detail);
    }
    admin_detail(a, "asking %s (%s)", l_out->node.name, l_out->socket);
    return EXIT_OK;
}

int request_open_socket(const struct admin *a, const char *socket, struct request_link *l_out)
{
    *l_out = (struct request_link){.admin = a};
    request_restart_clock(l_out);
    return try_socket(l_out, socket, request_left(l_out));
}

void request_close(struct request_link *l)
{
    client_close(l->client);
    l->client = NULL;
}

static bool is_lost(int rc)
{
    return rc == -ECONNRESET || rc == -EPIPE || rc == -ECONNREFUSED || rc == -ENOENT;
}

static bool is_refused_for_now(int rc)
{
    return rc == KV_E_UNAVAILABLE || rc == KV_E_BUSY || rc == KV_E_NOTLEADER;
}

bool request_again(const struct request_link *l, int code)
{
    if (!is_refused_for_now(code) || request_left(l) <= LAST_TRY_MS)
        return false;
    request_pause(RETRY_MS);
    return true;
}

/* Somebody who looks at a terminal learns why nothing happens. Once. */
static void tell_waiting(struct request_link *l, const char *what)
{
    if (l->told || !isatty(STDERR_FILENO))
        return;
    l->told = true;
    admin_say(l->admin, "kvnode: waiting for %s, up to %u s", what, (request_left(l) + 999) / 1000);
}

/* One attempt on the connection that there is. */
static int ask_once(struct request_link *l, enum message_type type, const union request_body *body,
                    union answer_body *answer_out)
{
    struct cursor in;
    l->detail[0] = '\0';
    if (l->client == NULL)
        return -ECONNRESET;
    client_ask(l->client, type, ++l->last_id, body);
    unsigned left = request_left(l), first = left > TELL_AFTER_MS ? TELL_AFTER_MS : left;
    int rc = client_call(l->client, l->last_id, first, &in, l->detail, sizeof l->detail);
    if (rc == -ETIMEDOUT && first < left) {
        tell_waiting(l, "an answer");
        /* Nothing is sent again: this goes on waiting for the same answer. */
        rc = client_call(l->client, l->last_id, request_left(l), &in, l->detail, sizeof l->detail);
    }
    if (rc == 0 && !body_decode_answer((uint8_t)type, &in, answer_out))
        rc = -EPROTO;
    return rc;
}

/* A refusal with a reason may be one that time does not mend: the node's data have gone back, or it is
 * told of two clusters. The refusal's own text stays. */
static bool is_out_of_service(struct request_link *l)
{
    char why[DETAIL_MAX];
    union answer_body answer;
    json_t *status = NULL;
    memcpy(why, l->detail, sizeof why);
    if (ask_once(l, MESSAGE_STATUS, NULL, &answer) == 0)
        status = json_loadb((const char *)answer.status.json.data, answer.status.json.len, 0, NULL);
    const char *way_back = json_string_value(json_object_get(status, "way_back"));
    snprintf(l->way_back, sizeof l->way_back, "%s", way_back != NULL ? way_back : "");
    json_decref(status);
    memcpy(l->detail, why, sizeof why);
    return l->way_back[0] != '\0';
}

/* repeat_lost: the request may be sent again after a lost connection. */
static int ask(struct request_link *l, enum message_type type, const union request_body *body,
               bool repeat_lost, union answer_body *answer_out)
{
    uint64_t begin = clock_boot_ms();
    char looked[DETAIL_MAX] = ""; /* the reason for which it was looked last */
    for (;;) {
        int rc = ask_once(l, type, body, answer_out);
        bool lost = is_lost(rc);
        if (rc == KV_E_UNAVAILABLE && strcmp(l->detail, looked) != 0) {
            memcpy(looked, l->detail, sizeof looked);
            if (is_out_of_service(l))
                return rc;
        }
        if (!is_refused_for_now(rc) && !(lost && repeat_lost))
            return rc;
        if (request_left(l) <= (lost ? RETRY_MS : LAST_TRY_MS))
            return rc;
        admin_detail(l->admin, "%s; trying again",
                     l->detail[0] != '\0' ? l->detail
                     : rc > 0             ? error_text(rc)
                                          : strerror(-rc));
        if (clock_boot_ms() - begin > TELL_AFTER_MS)
            tell_waiting(l, "a leader");
        request_pause(RETRY_MS);
        if (lost && (rc = reconnect_same(l)) != 0 && !is_lost(rc))
            return rc;
    }
}

int request_ask(struct request_link *l, enum message_type type, const union request_body *body,
                union answer_body *answer_out)
{
    return ask(l, type, body, !l->no_repeat, answer_out);
}

int request_resolve(struct request_link *l, const char *key, bool local, struct attr *attr_out)
{
    const union request_body body = {
        .resolve = {.at = local ? READ_LOCAL : READ_LINEARIZABLE, .path = bytes_text(key)}};
    union answer_body answer;
    int rc = request_ask(l, MESSAGE_RESOLVE, &body, &answer);
    if (rc == 0)
        *attr_out = answer.resolve.attr;
    return rc;
}

uint8_t request_at(const struct request_link *l)
{
    return l->admin->opt[OPT_LOCAL] != NULL ? READ_LOCAL : READ_LINEARIZABLE;
}

uint32_t request_rows(const struct request_link *l, uint32_t rows)
{
    return l->admin->opt[OPT_LOCAL] != NULL ? rows | PAST_LOCAL : rows;
}

int request_parent(struct request_link *l, const char *key, uint64_t *directory_out, const char **name_out,
                   size_t *name_len_out)
{
    char path[KV_PATH_MAX + 1];
    struct attr attr;
    size_t len = strlen(key);
    while (len > 0 && key[len - 1] == '/')
        len--;
    size_t at = len;
    while (at > 0 && key[at - 1] != '/')
        at--;
    if (at == len)
        return KV_E_INVAL;
    if (at > KV_PATH_MAX)
        return KV_E_NAMETOOLONG;
    memcpy(path, key, at);
    path[at] = '\0';
    int rc = request_resolve(l, path, l->admin->opt[OPT_LOCAL] != NULL, &attr);
    if (rc != 0)
        return rc;
    if (attr.type != INODE_DIRECTORY)
        return KV_E_NOTDIR;
    *directory_out = attr.ino;
    *name_out = key + at;
    *name_len_out = len - at;
    return 0;
}

/* One command with the session's number; body bytes as given. */
static int write_command(struct request_link *l, enum command_op op, uint64_t seq, uint16_t flags,
                         const uint8_t *body, size_t len, struct command_result *result_out)
{
    /* The node's own account may do what root may: its files are that account's anyway. */
    if (l->node.trusted)
        flags |= COMMAND_TRUSTED;
    const char *label = has_label(l) ? l->label : NULL;
    if (label != NULL)
        flags |= COMMAND_LABEL;
    struct buffer b = BUFFER_INIT;
    union answer_body answer;
    const struct command cmd = {.op = (uint8_t)op,
                                .flags = flags,
                                .label = label,
                                .label_len = label != NULL ? strlen(label) : 0,
                                .session = l->session,
                                .seq = seq,
                                .acked_below = l->session != 0 ? l->seq : 0,
                                .node = "",
                                .body = body,
                                .body_len = len};
    command_encode(&b, &cmd);
    const union request_body request = {.write.command = bytes_of(b.data, b.len)};
    int rc = b.failed ? -ENOMEM
                      : ask(l, MESSAGE_WRITE, &request, l->session != 0 || op == COMMAND_REGISTER, &answer);
    buffer_deinit(&b);
    if (rc != 0)
        return rc;
    *result_out = answer.write;
    return result_out->code;
}

/* What is known of a write whose registration or whose parts failed: the command itself
 * was not sent. */
static int before_the_command(int rc)
{
    return rc == KV_E_UNKNOWN || rc == KV_E_SESSION || rc == -ETIMEDOUT || is_lost(rc) ? KV_E_UNAVAILABLE
                                                                                       : rc;
}

int request_write(struct request_link *l, enum command_op op, const struct command_body *body,
                  struct command_result *result_out)
{
    struct buffer b = BUFFER_INIT;
    *result_out = (struct command_result){0};
    command_body_encode(&b, (uint8_t)op, body);
    int rc = b.failed ? -ENOMEM : 0;
    if (rc == 0 && l->session != 0)
        l->seq++;
    uint64_t seq = l->session != 0 ? l->seq : 0;
    uint16_t flags = command_body_flags((uint8_t)op, body);
    if (rc == 0 && b.len <= l->node.part_size) {
        rc = write_command(l, op, seq, flags, b.data, b.len, result_out);
        buffer_deinit(&b);
        return rc;
    }
    /* Parts may have to be sent again from the first when a leader changed on the way, or
     * when there is no room for them now: then none of them is kept. */
    uint32_t furthest = 0;
    bool sent = false;
    for (int tries = 0; rc == 0 && tries < 5; tries++) {
        size_t at = 0;
        uint32_t part;
        for (part = 0; rc == 0 && b.len - at > l->node.part_size; part++) {
            struct buffer piece = BUFFER_INIT;
            const struct command_body bytes = {
                .part = part, .value = b.data + at, .value_len = l->node.part_size};
            command_body_encode(&piece, COMMAND_PART, &bytes);
            rc = piece.failed ? -ENOMEM
                              : write_command(l, COMMAND_PART, seq, 0, piece.data, piece.len, result_out);
            if (!sent)
                rc = before_the_command(rc);
            buffer_deinit(&piece);
            at += l->node.part_size;
            if (rc == 0 && part >= furthest) {
                furthest = part + 1;
                request_restart_clock(l); /* the deadline counts from the last progress */
            }
        }
        if (rc == 0) {
            struct buffer last = BUFFER_INIT;
            command_last_piece_encode(&last, part, 0, b.data + at, b.len - at);
            rc = last.failed
                     ? -ENOMEM
                     : write_command(l, op, seq, flags | COMMAND_PARTS, last.data, last.len, result_out);
            buffer_deinit(&last);
            sent = rc != KV_E_PART;
        }
        if (rc == KV_E_BUSY && request_left(l) > RETRY_MS) {
            request_pause(RETRY_MS);
            tries--;
            rc = 0;
            continue;
        }
        if (rc != KV_E_PART)
            break;
        rc = tries < 4 ? 0 : KV_E_PART;
    }
    buffer_deinit(&b);
    return rc;
}

int request_register(struct request_link *l, const char *client)
{
    struct buffer b = BUFFER_INIT;
    struct command_result result = {0};
    uint8_t nonce[16];
    if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce)
        return -EIO;
    const struct command_body body = {
        .nonce = nonce, .name = (const uint8_t *)client, .name_len = strlen(client)};
    command_body_encode(&b, COMMAND_REGISTER, &body);
    int rc = b.failed ? -ENOMEM : write_command(l, COMMAND_REGISTER, 0, 0, b.data, b.len, &result);
    buffer_deinit(&b);
    if (rc != 0)
        return before_the_command(rc);
    l->session = result.session;
    l->seq = 0;
    return result.session != 0 ? 0 : -EPROTO;
}

void request_end_session(struct request_link *l)
{
    struct command_result result;
    if (l->session == 0)
        return;
    l->seq++;
    (void)write_command(l, COMMAND_END, l->seq, 0, NULL, 0, &result);
    l->session = 0;
}
