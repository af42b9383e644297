#include "kvfs/cache/submounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kvfs/cache/cache.h"
#include "kvfs/link/mountinfo.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define TABLE "/proc/self/mountinfo"
#define NOTIFY_INVAL_ENTRY 3
#define EXPIRE_ONLY 1 /* Linux 6.2: older than epochs */
#define DEPTH_MAX 2048
/* The kernel refuses to move a directory while somebody changes one of the two above it. */
#define MOVE_TRIES 100
#define MOVE_PAUSE_MS 10
/* Many mounts come at once, as at a boot: the table is long then. */
#define LOOK_PAUSE_MS 50

/* The table of mounts */

void submount_paths_free(struct submount_paths *paths)
{
    while (paths->n > 0)
        free(paths->paths[--paths->n]);
    free(paths->paths);
    *paths = (struct submount_paths){0};
}

bool submount_paths_have(const struct submount_paths *paths, const char *name)
{
    size_t len = strlen(name), i;

    for (i = 0; i < paths->n; i++) {
        const char *at = paths->paths[i];

        while ((at = strstr(at, name)) != NULL) {
            if (at[-1] == '/' && (at[len] == '/' || at[len] == '\0'))
                return true;
            at++;
        }
    }
    return false;
}

/* A mount of this file system: it may be bound to several places. */
struct place {
    long id;
    char *root, *point; /* owned */
};

struct places {
    struct place *places; /* owned */
    size_t n;
};

static void places_free(struct places *p)
{
    while (p->n-- > 0) {
        free(p->places[p->n].root);
        free(p->places[p->n].point);
    }
    free(p->places);
}

static bool put_place(struct places *p, const struct mount_line *mount)
{
    struct place *places = realloc(p->places, (p->n + 1) * sizeof *places);
    struct place *place;

    if (places == NULL)
        return false;
    p->places = places;
    place = &places[p->n++];
    *place = (struct place){.id = mount->id, .root = strdup(mount->root), .point = strdup(mount->point)};
    return place->root != NULL && place->point != NULL;
}

static const struct place *find_place(const struct places *p, long id)
{
    size_t i;

    for (i = 0; i < p->n && p->places[i].id != id; i++)
        ;
    return i < p->n ? &p->places[i] : NULL;
}

/* False: out of memory. */
static bool put_path(struct submount_paths *out, const struct place *place, const char *point)
{
    size_t len = strcmp(place->point, "/") == 0 ? 0 : strlen(place->point);
    char **paths;
    char *path;

    /* On top of all of it: there is no name on the way. */
    if (out->n == SUBMOUNT_PATHS_MAX || strncmp(point, place->point, len) != 0 || point[len] != '/' ||
        point[len + 1] == '\0')
        return true;
    if (asprintf(&path, "%s%s", strcmp(place->root, "/") == 0 ? "" : place->root, point + len) < 0)
        return false;
    paths = realloc(out->paths, (out->n + 1) * sizeof *paths);
    if (paths == NULL) {
        free(path);
        return false;
    }
    out->paths = paths;
    out->paths[out->n++] = path;
    return true;
}

bool submounts_read(FILE *mountinfo, const char *device, struct submount_paths *out)
{
    struct places ours = {0};
    struct mount_line mount;
    size_t size = 0;
    char *line = NULL;
    bool ok = true;

    *out = (struct submount_paths){0};
    while (ok && getline(&line, &size, mountinfo) >= 0) {
        if (mountinfo_parse(line, &mount) && strcmp(mount.device, device) == 0)
            ok = put_place(&ours, &mount);
    }
    rewind(mountinfo);
    while (ok && ours.n > 0 && getline(&line, &size, mountinfo) >= 0) {
        const struct place *place = mountinfo_parse(line, &mount) ? find_place(&ours, mount.parent) : NULL;

        if (place != NULL)
            ok = put_path(out, place, mount.point);
    }
    ok = ok && !ferror(mountinfo);
    free(line);
    places_free(&ours);
    if (!ok)
        submount_paths_free(out);
    return ok;
}

/* Of the mount on top of that directory. NULL: it is not one of kvfs, or out of memory. */
static char *device_of(const char *path)
{
    FILE *f = fopen(TABLE, "re");
    struct mount_line mount;
    size_t size = 0;
    char *line = NULL, *device = NULL;

    while (f != NULL && getline(&line, &size, f) >= 0) {
        if (!mountinfo_parse(line, &mount) || strcmp(mount.point, path) != 0)
            continue;
        free(device);
        device = strcmp(mount.type, "fuse.kvfs") == 0 ? strdup(mount.device) : NULL;
    }
    free(line);
    if (f != NULL)
        fclose(f);
    return device;
}

static void wake(struct submounts *s)
{
    uint64_t one = 1;

    if (write(s->wake_fd, &one, sizeof one) < 0)
        return; /* full: it is awake */
}

/* paths: taken over. */
static void learn(struct cache *cache, struct submount_paths *paths)
{
    struct submounts *s = &cache->submounts;
    bool inside = paths->n > 0;

    submount_paths_free(&s->paths);
    s->paths = *paths;
    *paths = (struct submount_paths){0};
    if (inside == s->inside)
        return;
    s->inside = inside;
    if (inside) {
        log_info("something is mounted inside, at %s: names are looked up every time until it is unmounted",
                 s->paths.paths[0]);
        cache->entry_timeout = 0;
        if (cache->notifier.epoch_works)
            submounts_expire(cache, NULL, true);
    } else {
        log_info("nothing is mounted inside any more");
        cache->entry_timeout = cache->notifier.epoch_works ? TIMEOUT_LONG : 0;
    }
}

static void read_table(struct cache *cache)
{
    struct submounts *s = &cache->submounts;
    FILE *f = fopen(TABLE, "re");
    struct submount_paths paths = {0};
    bool ok = f != NULL && submounts_read(f, s->device, &paths);

    if (f != NULL)
        fclose(f);
    pthread_mutex_lock(&cache->hub->lock);
    if (ok)
        learn(cache, &paths);
    else
        log_warn("%s could not be read: what is mounted inside is not known", TABLE);
    pthread_mutex_unlock(&cache->hub->lock);
}

static bool has_changed(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLPRI};

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLPRI | POLLERR)) != 0;
}

void submounts_look(struct cache *cache)
{
    struct submounts *s = &cache->submounts;

    if (s->device == NULL)
        return;
    pthread_mutex_lock(&s->reading);
    if (has_changed(s->look_fd))
        read_table(cache);
    pthread_mutex_unlock(&s->reading);
}

bool submounts_are_inside(const struct cache *cache)
{
    return cache->submounts.inside;
}

bool submounts_depend_on(const struct cache *cache, const char *name)
{
    return cache->submounts.inside && submount_paths_have(&cache->submounts.paths, name);
}

/* Names that expire */

void submounts_forget(struct cache *cache, struct kernel_inode *inode)
{
    if (inode->expire_queued)
        TAILQ_REMOVE(&cache->submounts.names, inode, expire_link);
    inode->expire_queued = false;
}

void submounts_expire(struct cache *cache, struct name_list *wrong, bool all)
{
    struct submounts *s = &cache->submounts;
    struct kernel_inode *inode, *next;
    struct name *name;

    if (wrong != NULL)
        TAILQ_CONCAT(&s->wrong, wrong, link);
    if (all) {
        struct name *missing = names_take_missing(&cache->names), *next_name;

        HASH_ITER(hh, missing, name, next_name)
        {
            HASH_DEL(missing, name);
            TAILQ_INSERT_TAIL(&s->wrong, name, link);
        }
        HASH_ITER(hh, cache->inodes.by_ino, inode, next)
        {
            if (inode->expire_queued || inode->name == NULL)
                continue;
            inode->expire_queued = true;
            TAILQ_INSERT_TAIL(&s->names, inode, expire_link);
        }
    }
    wake(s);
}

/* Without the lock: it may wait for a request in that directory. That the kernel does not have it is as well.
 */
static void expire(const struct cache *cache, fuse_ino_t parent, const char *text)
{
    struct {
        struct {
            uint32_t len;
            int32_t error;
            uint64_t unique;
        } head;
        uint64_t parent;
        uint32_t len, flags;
        char name[KV_NAME_MAX + 1];
    } n = {.head.error = NOTIFY_INVAL_ENTRY, .parent = parent, .flags = EXPIRE_ONLY};
    size_t len = strlen(text);

    if (len > KV_NAME_MAX)
        return;
    n.len = (uint32_t)len;
    memcpy(n.name, text, len);
    n.head.len = (uint32_t)(offsetof(__typeof__(n), name) + len + 1);
    if (write(fuse_session_fd(cache->hub->session), &n, n.head.len) < 0)
        return;
}

/* One name. False: there is none. Drops the lock meanwhile. */
static bool expire_next(struct cache *cache)
{
    struct submounts *s = &cache->submounts;
    struct name *name = TAILQ_FIRST(&s->wrong);
    struct kernel_inode *inode = TAILQ_FIRST(&s->names);
    char text[KV_NAME_MAX + 1];
    uint64_t parent;

    if (name != NULL) {
        TAILQ_REMOVE(&s->wrong, name, link);
        parent = name->parent;
        snprintf(text, sizeof text, "%s", name->text);
        free(name);
    } else if (inode != NULL) {
        submounts_forget(cache, inode);
        if (inode->name == NULL)
            return true;
        parent = inode->parent;
        snprintf(text, sizeof text, "%s", inode->name);
    } else {
        return false;
    }
    pthread_mutex_unlock(&cache->hub->lock);
    expire(cache, hub_node(cache->hub, parent), text);
    pthread_mutex_lock(&cache->hub->lock);
    return true;
}

/* Directories that move */

static void move_free(struct submounts *s, struct submount_move *m)
{
    TAILQ_REMOVE(&s->moves, m, link);
    s->n_moves--;
    free(m->old);
    free(m->path);
    free(m);
}

/* Those that are done and that no call can have overtaken. */
static void drop_done(struct cache *cache)
{
    struct submounts *s = &cache->submounts;
    const struct call *oldest = TAILQ_FIRST(&cache->hub->calls.all);
    struct submount_move *m, *next;

    for (m = TAILQ_FIRST(&s->moves); m != NULL; m = next) {
        next = TAILQ_NEXT(m, link);
        if (m->done_at != 0 && (oldest == NULL || oldest->serial > m->done_at))
            move_free(s, m);
    }
}

void submounts_moved(struct cache *cache, struct kernel_inode *directory, uint64_t revision, uint64_t parent,
                     const void *name, size_t len)
{
    struct submounts *s = &cache->submounts;
    struct submount_move *m;

    drop_done(cache);
    /* Whether anything is mounted is asked when it is done. */
    if (s->device == NULL || s->n_moves == SUBMOUNT_MOVES_MAX || len == 0)
        return;
    m = calloc(1, sizeof *m);
    if (m == NULL)
        return;
    m->old = calloc(1, sizeof *m->old + len + 1);
    if (m->old == NULL) {
        free(m);
        return;
    }
    m->ino = directory->ino;
    m->revision = revision;
    m->old->parent = parent;
    memcpy(m->old->text, name, len);
    TAILQ_INSERT_TAIL(&s->moves, m, link);
    s->n_moves++;
    wake(s);
}

enum submount_answer submounts_moving(struct cache *cache, const struct call *call, uint64_t found,
                                      uint64_t *ino_out)
{
    struct submounts *s = &cache->submounts;
    bool own = call->caller.pid == s->tid;
    const struct submount_move *m;

    *ino_out = 0;
    if (TAILQ_EMPTY(&s->moves) || !s->inside || (own && found != 0))
        return SUBMOUNT_NONE;
    drop_done(cache);
    TAILQ_FOREACH (m, &s->moves, link) {
        if (m->old->parent != call->parent || strcmp(m->old->text, call->name) != 0)
            continue;
        if (m->done_at != 0 && call->serial > m->done_at)
            continue;
        *ino_out = m->ino;
        /* It has moved on since this thread looked where it is: that the name is missing would unmount what
         * the kernel has moved there. */
        if (own)
            return SUBMOUNT_UNKNOWN;
        return m->found_at != 0 && call->serial > m->found_at ? SUBMOUNT_UNKNOWN : SUBMOUNT_BEFORE;
    }
    return SUBMOUNT_NONE;
}

void submounts_found(struct cache *cache, uint64_t ino)
{
    struct submount_move *m;

    TAILQ_FOREACH (m, &cache->submounts.moves, link) {
        if (m->ino == ino && m->found_at == 0)
            m->found_at = cache->hub->calls.serials;
    }
}

static struct submount_move *next_move(struct submounts *s)
{
    struct submount_move *m;

    TAILQ_FOREACH (m, &s->moves, link) {
        if (m->done_at == 0)
            return m;
    }
    return NULL;
}

struct call_list *submounts_to_wait_for(struct cache *cache)
{
    struct submounts *s = &cache->submounts;

    return s->inside && next_move(s) != NULL ? &s->waiting : NULL;
}

/* Where it is now below the root of this mount. False: this mount does not know all directories above it. */
static bool path_of(struct cache *cache, uint64_t ino, char path[static PATH_MAX])
{
    const struct kernel_inode *way[DEPTH_MAX], *inode = kernel_inode_find(cache, ino);
    size_t depth = 0, len = 0;

    while (inode != NULL && inode->ino != cache->hub->root_ino) {
        if (inode->name == NULL || inode->parent == 0 || depth == DEPTH_MAX)
            return false;
        way[depth++] = inode;
        inode = kernel_inode_find(cache, inode->parent);
    }
    while (inode != NULL && depth > 0) {
        const char *name = way[--depth]->name;

        if (len + 1 + strlen(name) >= PATH_MAX)
            return false;
        path[len++] = '/';
        len += strlen(strcpy(path + len, name));
    }
    return inode != NULL;
}

/* A path of the cluster's below the root of this mount; NULL: it is not, or out of memory. */
static char *below_prefix(const struct options *o, const uint8_t *key, size_t len)
{
    const char *prefix = o->prefix != NULL ? o->prefix + strspn(o->prefix, "/") : "";
    size_t n = strlen(prefix);
    char *path;

    while (n > 0 && prefix[n - 1] == '/')
        n--;
    if (n > 0 && (len <= n || memcmp(key, prefix, n) != 0 || key[n] != '/'))
        return NULL;
    n += n > 0;
    path = malloc(len - n + 2);
    if (path == NULL)
        return NULL;
    path[0] = '/';
    memcpy(path + 1, key + n, len - n);
    path[len - n + 1] = '\0';
    return path;
}

static void on_path(struct call *call, int code, const union answer_body *answer)
{
    struct cache *cache = call->hub->cache;
    struct submounts *s = &cache->submounts;
    struct submount_move *m;
    struct log_row row;
    struct cursor rows;

    TAILQ_FOREACH (m, &s->moves, link) {
        if (m->asking == call)
            break;
    }
    if (m != NULL) {
        m->asking = NULL;
        m->tries++;
        if (code == 0)
            rows = rows_cursor(&answer->log.rows);
        for (uint32_t i = 0; code == 0 && m->path == NULL && i < answer->log.rows.count; i++) {
            log_row_decode(&rows, &row);
            if (row.from_len > 0) /* the other one is that it has gone from there */
                m->path = below_prefix(cache->hub->options, row.key, row.key_len);
        }
        wake(s);
    }
    call_end(call);
}

/* Its path is in the cluster's log. */
static void ask_for_path(struct cache *cache, struct submount_move *m)
{
    const struct hub *hub = cache->hub;
    const union request_body request = {
        .log = {.after = m->revision - 1, .n = hub->options->read_local ? 1 | PAST_LOCAL : 1}};
    struct call *call = call_begin(cache->hub, NULL, CALL_PLAIN);

    if (call == NULL)
        return;
    call->ino = m->ino;
    m->asking = call;
    uplink_send(call, MESSAGE_LOG, &request, on_path);
}

static bool look_up(struct cache *cache, const char *path)
{
    char whole[2 * PATH_MAX];
    struct stat st;
    bool found;

    snprintf(whole, sizeof whole, "%s%s", cache->hub->options->mountpoint, path);
    pthread_mutex_unlock(&cache->hub->lock);
    found = fstatat(AT_FDCWD, whole, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0;
    pthread_mutex_lock(&cache->hub->lock);
    cache->submounts.to_watch = true; /* what is mounted there has another path, which no event tells */
    return found;
}

/* The first one: a lookup by its new name moves it in the kernel. False: there is none, or none now. Drops
 * the lock meanwhile. */
static bool move_next(struct cache *cache)
{
    struct submounts *s = &cache->submounts;
    struct submount_move *m = next_move(s);
    char path[PATH_MAX];
    bool done;

    if (m == NULL || m->asking != NULL)
        return false;
    if (!s->inside) {
        pthread_mutex_unlock(&cache->hub->lock);
        submounts_look(cache);
        pthread_mutex_lock(&cache->hub->lock);
    }
    done = !s->inside;
    /* Twice: what the kernel has asked before the second time is being answered then. */
    if (!done && path_of(cache, m->ino, path)) {
        uint64_t hash = XXH3_64bits(path, strlen(path));

        m->tries = hash == m->tried ? m->tries : 0; /* what moves on and on is followed while it does */
        m->tried = hash;
        done = look_up(cache, path) && look_up(cache, path);
    } else if (!done && m->path != NULL) {
        done = look_up(cache, m->path) && look_up(cache, m->path);
    } else if (!done) {
        ask_for_path(cache, m);
    }
    if (!done && (m->asking != NULL || ++m->tries < MOVE_TRIES))
        return false;
    if (!done)
        log_warn("inode %llu was renamed elsewhere, and the kernel does not follow: what is mounted below it "
                 "may be lost",
                 (unsigned long long)m->ino);
    m->done_at = cache->hub->calls.serials;
    call_wake_all(&s->waiting, 0);
    return true;
}

/* The thread */

static void *watch(void *arg)
{
    struct cache *cache = arg;
    struct submounts *s = &cache->submounts;
    struct pollfd fds[2] = {{.fd = s->wake_fd, .events = POLLIN}, {.fd = s->own_fd, .events = POLLPRI}};
    uint64_t ignored, looked_ms = 0;

    pthread_mutex_lock(&cache->hub->lock);
    s->tid = (pid_t)syscall(SYS_gettid);
    while (s->running) {
        int wait = -1;

        if (move_next(cache) || expire_next(cache))
            continue;
        if (next_move(s) != NULL) {
            wait = MOVE_PAUSE_MS;
        } else if (s->to_watch) {
            uint64_t now = clock_boot_ms();

            wait = now - looked_ms < LOOK_PAUSE_MS ? (int)(looked_ms + LOOK_PAUSE_MS - now) : 0;
            if (wait == 0) {
                s->to_watch = false;
                looked_ms = now;
                pthread_mutex_unlock(&cache->hub->lock);
                pthread_mutex_lock(&s->reading);
                read_table(cache);
                pthread_mutex_unlock(&s->reading);
                pthread_mutex_lock(&cache->hub->lock);
                continue;
            }
        }
        pthread_mutex_unlock(&cache->hub->lock);
        poll(fds, 2, wait);
        if ((fds[0].revents & POLLIN) != 0 && read(s->wake_fd, &ignored, sizeof ignored) < 0)
            ignored = 0;
        pthread_mutex_lock(&cache->hub->lock);
        s->to_watch |= (fds[1].revents & (POLLPRI | POLLERR)) != 0;
    }
    pthread_mutex_unlock(&cache->hub->lock);
    return NULL;
}

void submounts_init(struct submounts *s)
{
    TAILQ_INIT(&s->wrong);
    TAILQ_INIT(&s->names);
    TAILQ_INIT(&s->moves);
    TAILQ_INIT(&s->waiting);
    pthread_mutex_init(&s->reading, NULL);
    s->wake_fd = s->own_fd = s->look_fd = -1;
}

static void close_all(struct submounts *s)
{
    int *fds[] = {&s->wake_fd, &s->own_fd, &s->look_fd};
    size_t i;

    for (i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

void submounts_deinit(struct submounts *s)
{
    while (!TAILQ_EMPTY(&s->moves))
        move_free(s, TAILQ_FIRST(&s->moves));
    names_free_list(&s->wrong);
    submount_paths_free(&s->paths);
    free(s->device);
    close_all(s);
    pthread_mutex_destroy(&s->reading);
}

int submounts_start(struct cache *cache)
{
    struct submounts *s = &cache->submounts;
    char *device = device_of(cache->hub->options->mountpoint);

    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->own_fd = open(TABLE, O_RDONLY | O_CLOEXEC);
    s->look_fd = open(TABLE, O_RDONLY | O_CLOEXEC);
    if (device == NULL || s->own_fd < 0 || s->look_fd < 0) {
        log_warn("this mount is not seen in %s: what is mounted inside can be unmounted by any change "
                 "elsewhere",
                 TABLE);
        free(device);
        return 0;
    }
    s->device = device;
    s->to_watch = true; /* what came before that */
    s->running = true;
    if (s->wake_fd < 0 || pthread_create(&s->thread, NULL, watch, cache) != 0) {
        s->running = false;
        return -1;
    }
    return 0;
}

void submounts_stop(struct cache *cache)
{
    struct submounts *s = &cache->submounts;
    bool running;

    pthread_mutex_lock(&cache->hub->lock);
    running = s->running;
    s->running = false;
    pthread_mutex_unlock(&cache->hub->lock);
    if (!running)
        return;
    wake(s);
    pthread_join(s->thread, NULL);
}
